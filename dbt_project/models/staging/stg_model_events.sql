-- One step in the life of a model version.
-- grain: step.  key: event_id.  lateness: any; the latest wins (life_order).
select
    -- ids
    event_id,
    model,
    model_version,
    parent_version,
    run_id,
    trigger_id,
    dataset_id,
    -- times
    event_time,
    ingested_at,
    -- what happened
    event,
    traffic,
    artifact_uri,
    metrics,
    reason
from {{ source('events', 'model_events') }}
