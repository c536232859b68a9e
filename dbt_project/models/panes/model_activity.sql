-- First and last prediction of every version, by the clock of the events and by the engine's.
-- grain: version in one role.  key: (model, model_version, variant).  lateness: any.
{{ config(
    key=['model', 'model_version', 'variant'],
    deltas=['events.inference'],
    merge={
        'first_event_time': 'min', 'last_event_time': 'max',
        'first_ingested_at': 'min', 'last_ingested_at': 'max'
    }
) }}

select
    model,
    model_version,
    variant,
    count(*) as inferences,
    min(event_time) as first_event_time,
    max(event_time) as last_event_time,
    min(ingested_at) as first_ingested_at,
    max(ingested_at) as last_ingested_at
from {{ ref('stg_inference') }}
group by model, model_version, variant
