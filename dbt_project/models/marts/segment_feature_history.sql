-- What was known of a segment at any past moment: feedback of the 30 days before.
-- Feedback counts from the end of its minute on, so that no prediction sees its own feedback, nor
-- of anything that was not known yet.
-- grain: end of a minute in which something became known.
-- key: (model, segment, event_timestamp).
-- lateness: any; late feedback counts from the minute of its event_time.
with feedback as (
    select
        panes.pane_start,
        panes.model,
        panes.segment,
        sum(panes.feedback)::bigint as labels,
        case when max(positive.positive_label) is not null then
            coalesce(sum(panes.feedback) filter (
                where panes.label = positive.positive_label
            ), 0)::bigint
        end as positives
    from {{ ref('feedback_panes') }} as panes
    inner join {{ ref('positive_labels') }} as positive on panes.model = positive.model
    where
        panes.segment is not null
        and panes.label is not null
        and panes.grain = '1 minute'
    group by panes.pane_start, panes.model, panes.segment
),

rolling as (
    select
        model,
        segment,
        pane_start + interval '1 minute' as event_timestamp,
        sum(labels) over thirty_days as labels_30d,
        sum(positives) over thirty_days as positives_30d
    from feedback
    window thirty_days as (
        partition by model, segment
        order by pane_start
        range between interval '720 hours' preceding and current row
    )
)

select
    model,
    segment,
    event_timestamp,
    labels_30d::bigint as labels_30d,
    positives_30d::bigint as positives_30d,
    positives_30d::double precision / labels_30d as positive_rate_30d
from rolling
