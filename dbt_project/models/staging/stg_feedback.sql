-- One feedback event on a prediction, with the label that it implies.
-- A number is its own label ("1" for a click); some kinds imply no label.
-- grain: feedback.  key: feedback_id.  lateness: any.
select
    -- ids
    feedback_id,
    request_id,
    model,
    item_id,
    rejected_request_id,
    retracts,
    user_id,
    -- times
    event_time,
    ingested_at,
    -- what it says
    kind,
    source,
    value,
    case
        when kind in ('preference', 'report', 'comment', 'retraction') then null
        else coalesce(label, {{ number_text('value') }})
    end as label,
    metadata
from {{ source('events', 'feedback') }}
