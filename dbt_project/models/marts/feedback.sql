-- Every feedback event, without who gave it and its metadata (events.feedback has them).
-- Joined to its prediction it is attributed_feedback.
-- grain: feedback.  key: feedback_id.  lateness: any.
select
    -- ids
    feedback_id,
    request_id,
    model,
    item_id,
    rejected_request_id,
    -- times
    event_time,
    ingested_at,
    -- what it says
    kind,
    source,
    value,
    label
from {{ source('events', 'feedback') }}
