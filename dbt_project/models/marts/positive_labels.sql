-- The label that a model's score is the probability of.
-- Set by policy; else that of the version that serves; else a label that means yes; else the
-- prediction that comes with the highest scores.
-- grain: model.  key: model.  lateness: any; an inferred one may change as events come.
{{ config(stored=true) }}

with served as (
    select
        model,
        max({{ metric_label('positive_label') }}) as label
    from {{ ref('model_versions') }}
    where status = 'champion'
    group by model
),

candidates as (
    select
        model,
        prediction as label,
        score_micro::double precision / scored as mean_score
    from {{ ref('prediction_counts') }}
    where scored > 0
    union all
    select
        model,
        label,
        -1 as mean_score
    from {{ ref('label_counts') }}
    where examples > 0
),

ranked as (
    select
        model,
        label,
        row_number() over (
            partition by model
            order by
                case
                    when label in ('1', 'true', 'yes', 'positive') then 0 else 1
                end asc,
                mean_score desc,
                label desc
        ) as place
    from candidates
)

select
    policies.model,
    coalesce(
        {{ class_of('policies.positive_label') }}, served.label, ranked.label
    ) as positive_label,
    case
        when policies.positive_label is not null then 'policy'
        when served.label is not null then 'version'
        when ranked.label is not null then 'inferred'
    end as source
from {{ ref('model_policies') }} as policies
left join served on policies.model = served.model
left join ranked on policies.model = ranked.model and ranked.place = 1
