-- How far each run of a trainer is: stage, step, loss, speed, and what is left.
-- grain: attempt at a run.  key: (run_id, attempt).
-- lateness: none; a trainer writes every few seconds while a recipe takes steps.
with ended as (
    select
        run_id,
        event,
        model_version,
        row_number() over (
            partition by run_id
            order by
                {{ life_order('desc') }}
        ) as place
    from {{ ref('stg_model_events') }}
    where event in ('trained', 'rejected') and run_id is not null
)

select
    progress.model,
    progress.run_id,
    progress.attempt,
    progress.trigger_id,
    ended.model_version,
    case
        when progress.attempt < claims.attempt then 'taken over'
        when ended.event is not null then ended.event
        when claims.finished_at is null then 'running'
        else 'ended'
    end as status,
    progress.stage,
    progress.step,
    progress.steps,
    progress.loss,
    progress.examples_per_s,
    progress.eta_s,
    progress.started_at,
    progress.updated_at
from {{ source('control', 'training_progress') }} as progress
left join {{ source('control', 'claims') }} as claims on progress.run_id = claims.run_id
left join ended on progress.run_id = ended.run_id and ended.place = 1
