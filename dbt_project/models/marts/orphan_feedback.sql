-- Feedback on predictions that were never seen (or are not seen yet).
-- grain: feedback without its inference.  key: feedback_id.
-- lateness: any; a row leaves when its inference comes.
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
    ingested_at
from {{ ref('waiting_feedback') }}
where awaited_id = request_id
