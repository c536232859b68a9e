-- What was known of a segment at any past moment: opinions of the 30 days before.
-- grain: minute in which something became known.  key: (model, segment, event_timestamp).
-- lateness: any; late feedback counts from the moment that it speaks of.
with opinions as (
    select
        panes.pane_start,
        panes.model,
        panes.segment,
        max(panes.last_known_at) as event_timestamp,
        sum(panes.opinions)::bigint as labels,
        coalesce(sum(panes.opinions) filter (
            where panes.label = positive.positive_label
        ), 0)::bigint as positives
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
        event_timestamp,
        sum(labels) over thirty_days as labels_30d,
        sum(positives) over thirty_days as positives_30d
    from opinions
    window thirty_days as (
        partition by model, segment
        order by pane_start
        range between interval '30 days' preceding and current row
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
