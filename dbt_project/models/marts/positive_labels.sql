-- What a model's score is the probability of.
-- Of the positive label: set by policy, else that of the version that serves, else inferred where a
-- model has two classes. Both predicted: the one of the higher scores, where the other's are below
-- .5 on average, and its own are not or all above the other's (a threshold). One predicted: labels
-- tell, where they agree with its scores; a class predicted with less than .5 on average is not the
-- positive one. None predicted with a score: a word that means yes. Else null.
-- With more classes, or two that are never predicted with less than .5 each, a score is that of the
-- predicted class. The score of a reward model is the probability of a reward of 1.
-- grain: model.  key: model.  lateness: any; an inferred one may change as events come.
{{ config(stored=true) }}

with sides as (
    select
        model,
        prediction as class,
        score_micro::double precision / 1000000 / nullif(scored, 0) as mean_score,
        least_score,
        greatest_score,
        null::bigint as labels,
        null::double precision as label_score,
        null::double precision as label_variance
    from {{ ref('prediction_counts') }}
    where prediction is not null
    union all
    select
        model,
        label as class,
        null::double precision as mean_score,
        null::double precision as least_score,
        null::double precision as greatest_score,
        scored as labels,
        score_micro::double precision / 1000000 / nullif(scored, 0) as label_score,
        score_squared_micro::double precision / 1000000 / nullif(scored, 0)
        - (score_micro::double precision / 1000000 / nullif(scored, 0))
        * (score_micro::double precision / 1000000 / nullif(scored, 0))
            as label_variance
    from {{ ref('label_counts') }}
    where label is not null and examples > rewards
),

classes as (
    select
        model,
        class,
        max(mean_score) as mean_score,
        max(least_score) as least_score,
        max(greatest_score) as greatest_score,
        max(labels) as labels,
        max(label_score) as label_score,
        max(label_variance) as label_variance
    from sides
    group by model, class
),

placed as (
    select
        *,
        row_number() over (
            partition by model
            order by mean_score desc nulls last, class asc
        ) as place
    from classes
),

-- high is predicted with the higher scores, low may not be predicted at all.
pairs as (
    select
        model,
        count(*) as classes,
        count(mean_score) as scored_classes,
        min(mean_score) as least_mean,
        min(least_score) as least_score
        {%- for side, place in [('high', 1), ('low', 2)] %}
        {%- for name in [
            'class', 'mean_score', 'least_score', 'greatest_score', 'labels', 'label_score',
            'label_variance'
        ] %},
        max(case when place = {{ place }} then {{ name }} end) as {{ side }}_{{ name }}
        {%- endfor %}
        {%- endfor %},
        count(case when lower(class) in ('1', 'true', 'yes', 'positive') then 1 end)
            as words,
        max(case when lower(class) in ('1', 'true', 'yes', 'positive') then class end)
            as word
    from placed
    group by model
),

-- How many standard errors the scores of one label are above those of the other.
tested as (
    select
        *,
        case when least(high_labels, low_labels) >= 10 then
            (low_label_score - high_label_score) / nullif(sqrt(
                greatest(
                    high_labels * high_label_variance
                    + low_labels * low_label_variance, 0
                ) / nullif(high_labels + low_labels, 0) * (
                    1 / nullif(high_labels, 0)::double precision
                    + 1 / nullif(low_labels, 0)::double precision
                )
            ), 0)
        end as z
    from pairs
),

evidence as (
    select
        *,
        case
            when classes > 2 then null
            when scored_classes = 2 then case
                when
                    low_mean_score < 0.5
                    and (
                        high_mean_score >= 0.5
                        or high_least_score > low_greatest_score
                    )
                    then 'scores'
            end
            when scored_classes = 1 then case
                when
                    (high_mean_score < 0.5 and z >= 3)
                    or (high_mean_score >= 0.5 and z <= -3)
                    then 'labels'
            end
            when words = 1 then 'word'
        end as inferred_from
    from tested
),

policies as (
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
            when evidence.inferred_from = 'labels' and evidence.high_mean_score < 0.5
                then evidence.low_class
            when evidence.inferred_from = 'word' then evidence.word
            when evidence.inferred_from is not null then evidence.high_class
        end as inferred_label,
        case when tasks.task = 'reward' then 'task' else evidence.inferred_from end
            as inferred_from,
        evidence.classes,
        coalesce(
            case
                when evidence.classes > 2
                    then evidence.least_mean * evidence.classes >= 1
                else
                    evidence.scored_classes = 2
                    and evidence.least_score >= 0.5
                    and evidence.high_least_score <= evidence.low_greatest_score
            end, false
        ) as scores_predictions
    from {{ ref('model_tasks') }} as tasks
    inner join policies on tasks.model = policies.model
    left join champion on tasks.model = champion.model
    left join evidence on tasks.model = evidence.model
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
