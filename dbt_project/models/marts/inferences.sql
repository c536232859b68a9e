-- Every prediction, without what a person may have written or may be known by: input, output,
-- features, user and session stay in events.inference.
-- grain: inference.  key: (request_id, model, item_id).  lateness: any.
select
    -- ids
    inference.request_id,
    inference.shadow_of,
    inference.model,
    inference.model_version,
    inference.variant,
    inference.endpoint,
    inference.segment,
    inference.item_id,
    -- times
    inference.event_time,
    inference.ingested_at,
    -- what went in
    inference.feature_ages,
    -- what came out
    inference.prediction,
    inference.score,
    inference.propensity,
    inference.target_propensity,
    inference.position,
    inference.latency_ms,
    inference.error
from {{ source('events', 'inference') }} as inference
