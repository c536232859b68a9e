-- Feedback on answers that were never seen (or are not seen yet).
-- grain: feedback without its inference.  key: feedback_id.
-- lateness: any; a row leaves when its inference comes.
select
    feedback.feedback_id,
    feedback.request_id,
    feedback.kind,
    feedback.source,
    feedback.value,
    feedback.label,
    feedback.event_time,
    feedback.ingested_at
from {{ ref('stg_feedback') }} as feedback
left join {{ ref('stg_inference') }} as inference
    on feedback.request_id = inference.request_id
where inference.request_id is null
