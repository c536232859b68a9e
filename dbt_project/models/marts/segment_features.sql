-- What is known of every segment now; Feast serves it online.
-- The row of segment_feature_history that will hold once the minute of the model's clock is over,
-- so that a label is served as soon as it is known.
-- grain: segment of a model with a label in the 30 days up to then.  key: (model, segment).
-- lateness: as segment_feature_history.
with spans as (
    select
        clock.model,
        {{ pane_start('1 minute', 'clock.event_clock') }} + interval '1 minute'
            as event_timestamp,
        positive.positive_label
    from {{ ref('model_clock') }} as clock
    inner join {{ ref('positive_labels') }} as positive on clock.model = positive.model
),

facts as (
    {{ segment_facts() }}
),

counted as (
    select
        facts.model,
        facts.segment,
        max(spans.event_timestamp) as event_timestamp,
        sum(facts.labels)::bigint as labels,
        case when max(spans.positive_label) is not null then
            coalesce(sum(facts.labels) filter (
                where facts.label = spans.positive_label
            ), 0)::bigint
        end as positives
    from facts
    inner join spans on facts.model = spans.model
    where
        facts.happened_at >= spans.event_timestamp - interval '720 hours'
        and facts.happened_at < spans.event_timestamp
        and coalesce(facts.until, spans.event_timestamp) >= spans.event_timestamp
    group by facts.model, facts.segment
)

select
    model,
    segment,
    event_timestamp,
    labels as labels_30d,
    positives as positives_30d,
    positives::double precision / nullif(labels, 0) as positive_rate_30d
from counted
