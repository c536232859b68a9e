-- The predictions of canaries by groups of the units that they were for. A unit is a user, else a
-- session, else the request; which group it is in, a hash of it says.
-- grain: hour, version and group of units.  key: all but the measures.  lateness: any.
{{ config(
    key=['model', 'pane_start', 'model_version', 'unit_group'],
    deltas=['events.inference'],
    retention='400 days'
) }}

with units as (
    select
        model,
        model_version,
        event_time,
        coalesce(nullif(user_id, ''), nullif(session_id, '')) as unit,
        request_id
    from {{ ref('stg_inference') }}
    where variant = 'canary'
)

select
    model,
    {{ pane_start('1 hour', 'event_time') }} as pane_start,
    model_version,
    {{ unit_group('coalesce(unit, request_id)') }} as unit_group,
    count(*) as predictions,
    count(unit) as known
from units
group by 1, 2, 3, 4
