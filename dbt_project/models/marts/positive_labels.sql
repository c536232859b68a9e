-- What a model's score is the probability of.
-- Of the positive label: set by policy, else that of the version that serves, else inferred where
-- there is one answer only (class_evidence). Else null, or that of the predicted class. The score of
-- a reward model is the probability of a reward of 1.
-- grain: model.  key: model.  lateness: any; an inferred one may change as events come.
{{ config(stored=true) }}

with policies as (
    select
        model,
        {{ class_of('positive_label') }} as label
    from {{ ref('model_policies') }}
),

champion as (
    select
        model,
        {{ metric_label('positive_label') }} as label
    from {{ ref('champions') }}
),

told as (
    select
        tasks.model,
        tasks.task,
        case
            when coalesce(tasks.task, '') != 'reward' or policies.label in ('0', '1')
                then policies.label
        end as policy_label,
        case
            when coalesce(tasks.task, '') != 'reward' or champion.label in ('0', '1')
                then champion.label
        end as version_label,
        case
            when tasks.task = 'reward' then '1'
            when tasks.task != 'classification' then null
            else evidence.positive_class
        end as inferred_label,
        case when tasks.task = 'reward' then 'task' else evidence.inferred_from end
            as inferred_from,
        evidence.classes,
        coalesce(evidence.scores_predictions, false) as scores_predictions
    from {{ ref('model_tasks') }} as tasks
    inner join policies on tasks.model = policies.model
    left join champion on tasks.model = champion.model
    left join {{ ref('class_evidence') }} as evidence
        on tasks.model = evidence.model
),

decided as (
    select
        *,
        coalesce(policy_label, version_label, inferred_label) as positive_label,
        case
            when policy_label is not null then 'policy'
            when version_label is not null then 'version'
            when inferred_label is not null then 'inferred'
        end as source,
        case
            when coalesce(policy_label, version_label, inferred_label) is not null
                then 'positive_label'
            when task = 'classification' and scores_predictions then 'prediction'
        end as score_of
    from told
)

select
    model,
    task,
    positive_label,
    source,
    case when source = 'inferred' then inferred_from end as inferred_from,
    score_of,
    case
        when task is null then 'no event tells what the model does'
        when task = 'regression'
            then 'task regression: metrics of classes and of scores mean nothing'
        when task = 'reward'
            then 'task reward: predictions are not compared with rewards'
        when task != 'classification'
            then 'task ' || task || ': only rewards are measured'
        when positive_label is not null
            then 'task classification: errors of numbers mean nothing'
        else concat_ws(
            '; ',
            case
                when classes > 2 then
                    'no positive label among ' || classes
                    || ' classes: auc, precision, recall and f1 mean nothing'
                else
                    'which class score is the probability of is not clear: '
                    || 'set the policy positive_label'
            end,
            case when score_of is null then
                'log_loss, brier and calibration_error need it'
            end
        )
    end as null_because
from decided
