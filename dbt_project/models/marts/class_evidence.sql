-- Which of a model's classes its score is the probability of, as far as events tell.
-- Two classes. Both predicted: the one of the higher scores, where the other's are below .5 on
-- average, and its own are not or all above the other's (a threshold). One predicted: labels tell,
-- where they agree with its scores; a class predicted with less than .5 on average is not the
-- positive one. None predicted with a score: a word that means yes.
-- With more classes, or two that are never predicted with less than .5 each, a score is that of the
-- predicted class. positive_labels decides.
-- grain: model with a class.  key: model.  lateness: any; it may change as events come.
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
)

select
    model,
    classes,
    inferred_from,
    case
        when inferred_from = 'labels' and high_mean_score < 0.5 then low_class
        when inferred_from = 'word' then word
        when inferred_from is not null then high_class
    end as positive_class,
    coalesce(
        case
            when classes > 2 then least_mean * classes >= 1
            else
                scored_classes = 2
                and least_score >= 0.5
                and high_least_score <= low_greatest_score
        end, false
    ) as scores_predictions
from evidence
