-- What broke the contract, and why; nothing that came is ever lost.
-- grain: rejected event.  key: rejected_id.  lateness: any.
select
    rejected_id,
    ingested_at,
    topic,
    field,
    reason,
    payload
from {{ source('events', 'rejected') }}
