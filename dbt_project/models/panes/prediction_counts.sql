-- How often each class was predicted, and with which scores. Predictions that are no class (measures,
-- long texts, none at all) are one row, whose prediction is null, and so are all classes but 256 of a
-- model (pane_most.sql). Scores of explored and of held out
-- predictions, which are drawn and not decided, are left out.
-- grain: predicted class of a model.  key: (model, prediction).  lateness: any.
{{ config(
    key=['model', 'prediction'],
    deltas=['events.inference'],
    merge={'least_score': 'min', 'greatest_score': 'max'},
    most={'prediction': most_categories()}
) }}

with decided as (
    select
        model,
        prediction as said,
        output,
        {{ as_class('prediction') }} as prediction,
        case when variant not in ('explore', 'holdout') then score end as score
    from {{ ref('stg_inference') }}
    {{ fence() }}
)

select
    model,
    prediction,
    count(*) as inferences,
    count(said) as predictions,
    count(case when prediction is null and {{ is_number('said') }} then 1 end)
        as measures,
    count(output) as outputs,
    count(score) as scored,
    coalesce(sum({{ micro('score') }}), 0)::bigint as score_micro,
    min(score) as least_score,
    max(score) as greatest_score
from decided
group by model, prediction
