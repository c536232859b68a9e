-- The last run of a model that ended, and what it knew. Where the version that it trained was taken back
-- since, new is what came after that: a model is not trained again on what misled it.
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
),

taken_back as (
    select
        model,
        max(event_time) as event_time,
        max(ingested_at) as ingested_at
    from {{ ref('stg_model_events') }}
    where event = 'rolled_back'
    group by model
)

select
    runs.model,
    case when taken_back.model is null then runs.event else 'rolled_back' end
        as outcome,
    runs.event_time as ended_at,
    greatest(runs.known_at, taken_back.ingested_at) as known_at,
    greatest(runs.event_clock, taken_back.event_time) as event_clock,
    runs.ended as runs
from runs
left join taken_back
    on runs.model = taken_back.model and runs.known_at < taken_back.ingested_at
where runs.place = 1
