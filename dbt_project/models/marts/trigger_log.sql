-- Every trigger that was taken, and those that wait or are held back now, with the reason.
-- grain: trigger.  key: (action, trigger_id).
-- lateness: none; a trigger that is held back leaves when what held it back does.
with ended as (
    select
        model,
        model_version,
        trigger_id,
        event,
        event_time,
        reason,
        row_number() over (
            partition by trigger_id
            order by
                {{ life_order('desc') }}
        ) as place
    from {{ ref('stg_model_events') }}
    where event in ('trained', 'rejected') and trigger_id is not null
),

known as (
    select
        trigger_id,
        reason
    from {{ source('control', 'trigger_history') }}
    where obstacle = ''
),

taken as (
    select
        coalesce(claims.trigger_id, ended.trigger_id) as trigger_id,
        coalesce(claims.model, ended.model) as model,
        ended.model_version,
        coalesce(ended.event, 'running') as status,
        ended.reason as outcome,
        claims.worker,
        claims.attempt,
        claims.claimed_at,
        coalesce(ended.event_time, claims.event_clock) as event_time
    from {{ source('control', 'claims') }} as claims
    full join ended on claims.trigger_id = ended.trigger_id and ended.place = 1
    where claims.trigger_id is not null or ended.place = 1
)

select
    'retrain' as action,
    taken.trigger_id,
    taken.model,
    taken.model_version,
    taken.status,
    known.reason,
    taken.outcome,
    null::text as held_back_by,
    taken.worker,
    taken.attempt,
    taken.claimed_at,
    taken.event_time
from taken
left join known on taken.trigger_id = known.trigger_id
union all
select
    'retrain' as action,
    waiting.trigger_id,
    waiting.model,
    waiting.model_version,
    case when waiting.due then 'due' else 'held back' end as status,
    waiting.reason,
    null::text as outcome,
    waiting.held_back_by,
    null::text as worker,
    null::integer as attempt,
    null::timestamptz as claimed_at,
    waiting.event_clock as event_time
from {{ ref('retrain_trigger') }} as waiting
left join taken on waiting.trigger_id = taken.trigger_id
where waiting.reason is not null and taken.trigger_id is null
union all
select
    'rollback' as action,
    event_id as trigger_id,
    model,
    model_version,
    'rolled back' as status,
    reason,
    null::text as outcome,
    null::text as held_back_by,
    null::text as worker,
    null::integer as attempt,
    null::timestamptz as claimed_at,
    event_time
from {{ ref('stg_model_events') }}
where event = 'rolled_back'
union all
select
    'rollback' as action,
    trigger_id,
    model,
    model_version,
    case when due then 'due' else 'held back' end as status,
    reason,
    null::text as outcome,
    held_back_by,
    null::text as worker,
    null::integer as attempt,
    null::timestamptz as claimed_at,
    window_end as event_time
from {{ ref('rollback_trigger') }}
where reason is not null
