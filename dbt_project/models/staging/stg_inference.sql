-- One answer of a model.
-- grain: inference.  key: request_id.  lateness: any.
select
    -- ids
    request_id,
    shadow_of,
    coalesce(shadow_of, request_id) as answered_id,
    model,
    model_version,
    variant,
    endpoint,
    segment,
    user_id,
    session_id,
    item_id,
    -- times
    event_time,
    ingested_at,
    -- what went in and what came out
    features,
    input,
    output,
    prediction,
    score,
    propensity,
    latency_ms,
    error
from {{ source('events', 'inference') }}
