-- One opinion on a prediction, with the label that it stands for.
-- A number stands for itself ("1" for a click); some kinds say nothing about the right answer.
-- grain: feedback.  key: feedback_id.  lateness: any.
select
    -- ids
    feedback_id,
    request_id,
    rejected_request_id,
    user_id,
    -- times
    event_time,
    ingested_at,
    -- what was said
    kind,
    source,
    value,
    case
        when kind in ('preference', 'report', 'comment') then null
        else coalesce(label, {{ number_text('value') }})
    end as label,
    metadata
from {{ source('events', 'feedback') }}
