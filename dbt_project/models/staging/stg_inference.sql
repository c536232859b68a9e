-- One prediction of a model.
-- grain: inference.  key: (request_id, model, item_id).  lateness: any.
select
    -- ids
    request_id,
    shadow_of,
    coalesce(shadow_of, request_id) as served_id,
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
    -- input and output
    features,
    input,
    output,
    prediction,
    score,
    probabilities,
    propensity,
    latency_ms,
    error
from {{ source('events', 'inference') }}
