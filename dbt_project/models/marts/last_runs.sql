-- The last run of a model that ended, and what it knew.
-- grain: model with a run that ended.  key: model.  lateness: any; ordered by event_time.
with runs as (
    select
        events.model,
        events.event,
        events.event_time,
        coalesce(claims.known_at, events.ingested_at) as known_at,
        coalesce(claims.event_clock, events.event_time) as event_clock,
        row_number() over (
            partition by events.model
            order by
                events.event_time desc,
                claims.known_at desc nulls last,
                {{ life_order('desc', 'events') }}
        ) as place,
        count(*) over (
            partition by events.model
            order by events.event_id
            rows between unbounded preceding and unbounded following
        ) as ended
    from {{ ref('stg_model_events') }} as events
    left join {{ source('control', 'claims') }} as claims
        on events.run_id = claims.run_id
    where events.event in ('trained', 'rejected')
)

select
    model,
    event as outcome,
    event_time as ended_at,
    known_at,
    event_clock,
    ended as runs
from runs
where place = 1
