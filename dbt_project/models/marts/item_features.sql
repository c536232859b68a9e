-- What is known of every item now; Feast serves it online.
-- The row of item_feature_history that will hold once the hour of the model's clock is over.
-- grain: item of a model with a prediction or a label in the 30 days up to then.
-- key: (model, item_id).  lateness: as item_feature_history.
with spans as (
    select
        clock.model,
        {{ pane_start('1 hour', 'clock.event_clock') }} + interval '1 hour'
            as event_timestamp,
        positive.positive_label
    from {{ ref('model_clock') }} as clock
    inner join {{ ref('positive_labels') }} as positive on clock.model = positive.model
),

facts as (
    {{ item_facts() }}
),

counted as (
    select
        facts.model,
        facts.item_id,
        max(spans.event_timestamp) as event_timestamp,
        max(facts.answered_at) as last_seen,
        sum(facts.predictions)::bigint as predictions,
        sum(facts.labels)::bigint as labels,
        case when max(spans.positive_label) is not null then
            coalesce(sum(facts.labels) filter (
                where facts.label = spans.positive_label
            ), 0)::bigint
        end as positives,
        sum(facts.reward)::double precision as reward
    from facts
    inner join spans on facts.model = spans.model
    where
        facts.happened_at >= spans.event_timestamp - interval '720 hours'
        and facts.happened_at < spans.event_timestamp
    group by facts.model, facts.item_id
)

select
    model,
    item_id,
    event_timestamp,
    last_seen,
    predictions as predictions_30d,
    labels as labels_30d,
    positives as positives_30d,
    positives::double precision / nullif(labels, 0) as positive_rate_30d,
    reward as reward_30d
from counted
