-- First and last prediction of every version, by the clock of the events and by the engine's.
-- An event that is dated ahead counts as of when it came in: no sender pushes a clock beyond the
-- wall's time. Live is a prediction that came in within an hour of its event_time, unlike those of
-- a replay.
-- grain: version in one role.  key: (model, model_version, variant).  lateness: any.
{{ config(
    key=['model', 'model_version', 'variant'],
    deltas=['events.inference'],
    merge={
        'first_event_time': 'min', 'last_event_time': 'max', 'last_live_event_time': 'max',
        'first_ingested_at': 'min', 'last_ingested_at': 'max'
    }
) }}

select
    model,
    model_version,
    variant,
    count(*) as inferences,
    min(least(event_time, ingested_at)) as first_event_time,
    max(least(event_time, ingested_at)) as last_event_time,
    max(case
        when ingested_at <= event_time + interval '1 hour'
            then least(event_time, ingested_at)
    end) as last_live_event_time,
    min(ingested_at) as first_ingested_at,
    max(ingested_at) as last_ingested_at
from {{ ref('stg_inference') }}
group by model, model_version, variant
