-- The request-ID join: feedback with each prediction that it is about, whichever came first.
-- grain: feedback and prediction.  key: (feedback_id, model, item_id).  lateness: any; feedback waits in
-- its topic until the inference comes.
select
    f.feedback_id,
    f.request_id,
    i.model,
    i.model_version,
    i.variant,
    i.endpoint,
    i.segment,
    i.item_id,
    i.prediction,
    i.score,
    f.kind,
    f.source,
    f.label,
    i.event_time as inference_time,
    f.event_time as feedback_time,
    greatest(f.event_time, i.event_time) as known_at,
    greatest(f.ingested_at, i.ingested_at) as ingested_at
from {{ ref('stg_feedback') }} as f
inner join {{ ref('stg_inference') }} as i
    on f.request_id = i.request_id and {{ is_about('f', 'i') }}
