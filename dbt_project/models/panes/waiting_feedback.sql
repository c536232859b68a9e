-- Feedback whose prediction has not come, or never comes: almost empty in a healthy system. For
-- each new prediction, panes look here for feedback that waits for it, instead of in the whole
-- topic. So this pane must be updated last: triggers fire in the order of their names, and those of
-- its readers come before 'w'.
-- grain: feedback and a prediction that it awaits; a preference awaits up to two.
-- key: (feedback_id, awaited_id).  lateness: any; a row leaves when its prediction comes.
{{ config(
    key=['feedback_id', 'awaited_id'],
    recompute={
        'events.inference': '
            select w.feedback_id from new_rows as n
            inner join panes.waiting_feedback as w on w.awaited_id = n.request_id',
        'events.feedback': '
            select n.feedback_id from new_rows as n
            left join events.inference as i
                on n.request_id = i.request_id and ' ~ is_about('n', 'i') ~ '
            where i.request_id is null
            union all
            select n.feedback_id from new_rows as n
            left join events.inference as i
                on
                    n.rejected_request_id = i.request_id
                    and ' ~ is_about('n', 'i', item=false) ~ '
            where n.rejected_request_id is not null and i.request_id is null',
    },
    deletes=['events.inference'],
    indexes=[['awaited_id']]
) }}

select
    awaiting.feedback_id,
    awaiting.awaited_id,
    awaiting.request_id,
    awaiting.model,
    awaiting.item_id,
    awaiting.kind,
    awaiting.source,
    awaiting.value,
    awaiting.label,
    awaiting.event_time,
    awaiting.ingested_at
from (
    select
        feedback_id,
        request_id,
        model,
        item_id,
        kind,
        source,
        value,
        label,
        event_time,
        ingested_at,
        unnest(case
            when kind = 'preference' and rejected_request_id != request_id
                then array[request_id, rejected_request_id]
            else array[request_id]
        end) as awaited_id
    from {{ ref('stg_feedback') }}
) as awaiting
left join {{ source('events', 'inference') }} as predictions
    on
        awaiting.awaited_id = predictions.request_id
        and {{ is_about('awaiting', 'predictions', item=false) }}
        and (
            awaiting.awaited_id != awaiting.request_id
            or {{ is_about('awaiting', 'predictions') }}
        )
where predictions.request_id is null
