-- What each model does, by which its metrics, triggers and columns mean something or not.
-- Set by the policy task; else inferred from what came: labels (numbers that are measures make a
-- regression), else rewards, else preferences, else the predictions alone.
-- grain: model.  key: model.  lateness: any; an inferred one may change as events come.
{{ config(stored=true) }}

with labelled as (
    select
        model,
        sum(examples - rewards - silent)::bigint as labels,
        sum(measures)::bigint as measures
    from {{ ref('label_counts') }}
    group by model
),

heard as (
    select
        model,
        sum(case when {{ is_reward() }} then feedback else 0 end)::bigint as rewards,
        sum(case when kind = 'preference' then feedback else 0 end)::bigint
            as preferences
    from {{ ref('feedback_panes') }}
    where grain = 'ever'
    group by model
),

predicted as (
    select
        model,
        sum(predictions)::bigint as predictions,
        sum(measures)::bigint as measures,
        sum(outputs)::bigint as outputs,
        sum(scored)::bigint as scored
    from {{ ref('prediction_counts') }}
    group by model
),

counted as (
    select
        policies.model,
        policies.task as set_task,
        coalesce(labelled.labels, 0) as labels,
        coalesce(heard.rewards, 0) as rewards,
        coalesce(heard.preferences, 0) as preferences,
        coalesce(predicted.predictions, 0) as predictions,
        coalesce(predicted.outputs, 0) as outputs,
        coalesce(predicted.predictions + predicted.scored, 0) = 0 as is_free,
        -- measures and no classes
        2 * (coalesce(labelled.measures, 0) + coalesce(predicted.measures, 0))
        > coalesce(labelled.labels, 0) + coalesce(predicted.predictions, 0)
            as is_measured
    from {{ ref('model_policies') }} as policies
    left join labelled on policies.model = labelled.model
    left join heard on policies.model = heard.model
    left join predicted on policies.model = predicted.model
),

inferred as (
    select
        *,
        case
            when labels > 0 and is_measured then 'regression'
            when labels > 0 and outputs > 0 and is_free then 'generation'
            when labels > 0 then 'classification'
            when rewards + preferences > 0 and outputs > 0 and is_free
                then 'generation'
            when rewards > 0 then 'reward'
            when preferences > 0 then 'preference'
            when predictions > 0 and is_measured then 'regression'
            when predictions > 0 then 'classification'
            when outputs > 0 then 'generation'
        end as task
    from counted
)

select
    model,
    coalesce(set_task, task) as task,
    case
        when set_task is not null then 'policy'
        when task is not null then 'inferred'
    end as source,
    labels,
    rewards,
    preferences,
    predictions
from inferred
