-- One prediction of a model.
-- grain: inference.  key: (request_id, model, item_id).  lateness: any.
select
    -- ids
    inference.request_id,
    inference.shadow_of,
    coalesce(inference.shadow_of, inference.request_id) as served_id,
    inference.model,
    inference.model_version,
    inference.variant,
    inference.endpoint,
    inference.segment,
    inference.user_id,
    inference.session_id,
    inference.item_id,
    -- times
    inference.event_time,
    inference.ingested_at,
    -- input and output
    inference.features,
    inference.input,
    inference.output,
    inference.prediction,
    inference.score,
    inference.probabilities,
    inference.propensity,
    inference.target_propensity,
    inference.position,
    inference.latency_ms,
    inference.error
from {{ source('events', 'inference') }} as inference
