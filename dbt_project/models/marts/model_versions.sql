-- Every version that has a model event, and its status.
-- Steps of the same instant are taken in the order of a life (life_order), whatever their ids.
-- grain: version.  key: (model, model_version).  lateness: any; the latest step wins.
{{ config(stored=true) }}

with latest as (
    select
        model,
        model_version,
        event,
        traffic,
        event_time,
        event_id,
        reason,
        row_number() over (
            partition by model, model_version
            order by
                {{ life_order('desc') }}
        ) as place,
        -- The conductor marks the changes of share by which what was earned before counts on.
        max(case
            when event != 'canary'
                or coalesce(metrics -> 'rollout' ->> 'allocation', '') != 'thompson'
                then event_time
        end) over (
            partition by model, model_version
            order by
                {{ life_order('desc') }}
            rows between unbounded preceding and unbounded following
        ) as counts_since
    from {{ ref('stg_model_events') }}
),

life as (
    select
        model,
        model_version,
        min(case when event in ('trained', 'rejected') then event_time end)
            as trained_at,
        max(case when event = 'promoted' then event_time end) as promoted_at,
        min(case when event in ('shadow', 'canary', 'promoted') then ingested_at end)
            as published_at,
        max(parent_version) as parent_version,
        max(artifact_uri) as artifact_uri,
        max(run_id) as run_id,
        max(trigger_id) as trigger_id,
        max(dataset_id) as dataset_id
    from {{ ref('stg_model_events') }}
    group by model, model_version
),

-- A version serves from its promotion until it, itself, is taken back; the newest one leads.
leader as (
    select
        model,
        model_version,
        row_number() over (
            partition by model
            order by
                {{ life_order('desc') }}
        ) as place
    from latest
    where place = 1 and event = 'promoted'
),

named as (
    select
        model,
        model_version,
        event,
        event_time,
        event_id,
        metrics,
        jsonb_object_keys(metrics) as name
    from {{ ref('stg_model_events') }}
),

told as (
    select
        model,
        model_version,
        name,
        metrics -> name as value,
        row_number() over (
            partition by model, model_version, name
            order by
                {{ life_order('desc') }}
        ) as place
    from named
),

-- Any event may have metrics: the latest one that has a name tells its value.
measured as (
    select
        model,
        model_version,
        jsonb_object_agg(name, value) as metrics
    from told
    -- RisingWave stores a null key, which jsonb_object_agg would end the view on
    where place = 1 and name is not null
    group by model, model_version
)

select
    life.model,
    life.model_version,
    case
        when leader.place = 1 then 'champion'
        when latest.event = 'promoted' then 'superseded'
        else latest.event
    end as status,
    leader.place,
    latest.traffic,
    life.parent_version,
    life.artifact_uri,
    life.trained_at,
    life.promoted_at,
    life.published_at,
    latest.event_time as changed_at,
    coalesce(latest.counts_since, latest.event_time) as counts_since,
    life.run_id,
    life.trigger_id,
    life.dataset_id,
    measured.metrics,
    latest.reason,
    history.reason as due_because
from life
inner join latest
    on
        life.model = latest.model
        and life.model_version = latest.model_version
        and latest.place = 1
left join leader
    on life.model = leader.model and life.model_version = leader.model_version
left join {{ source('control', 'trigger_history') }} as history
    on life.trigger_id = history.trigger_id and history.obstacle = ''
left join measured
    on
        life.model = measured.model
        and life.model_version = measured.model_version
