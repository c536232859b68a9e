-- Every prediction, without what a person may have written or may be known by: input, output,
-- features, user and session stay in events.inference.
-- grain: inference.  key: (request_id, model, item_id).  lateness: any.
select
    -- ids
    request_id,
    shadow_of,
    model,
    model_version,
    variant,
    endpoint,
    segment,
    item_id,
    -- times
    event_time,
    ingested_at,
    -- what came out
    prediction,
    score,
    propensity,
    latency_ms,
    error
from {{ source('events', 'inference') }}
