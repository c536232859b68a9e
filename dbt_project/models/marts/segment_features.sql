-- What is known of every segment now; Feast serves it online.
-- The newest row of segment_feature_history, without the rows before it: it is served as soon as an
-- feedback is known, and is history from the end of that minute on.
-- grain: segment of a model.  key: (model, segment).  lateness: as segment_feature_history.
with latest as (
    select
        model,
        segment,
        max(pane_start) as pane_start
    from {{ ref('feedback_panes') }}
    where segment is not null and grain = '1 minute' and label is not null
    group by model, segment
),

summed as (
    select
        latest.model,
        latest.segment,
        latest.pane_start + interval '1 minute' as event_timestamp,
        sum(panes.feedback)::bigint as labels_30d,
        case when max(positive.positive_label) is not null then
            coalesce(sum(panes.feedback) filter (
                where panes.label = positive.positive_label
            ), 0)::bigint
        end as positives_30d
    from latest
    inner join {{ ref('feedback_panes') }} as panes
        on
            latest.model = panes.model
            and latest.segment = panes.segment
            and panes.grain = '1 minute'
            and panes.label is not null
            and panes.pane_start >= latest.pane_start - interval '30 days'
    inner join {{ ref('positive_labels') }} as positive
        on latest.model = positive.model
    group by latest.model, latest.segment, latest.pane_start
)

select
    model,
    segment,
    event_timestamp,
    labels_30d,
    positives_30d,
    positives_30d::double precision / labels_30d as positive_rate_30d
from summed
