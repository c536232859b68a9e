-- How often each label was predicted, and with which scores.
-- grain: prediction of a model.  key: (model, prediction).  lateness: any.
{{ config(key=['model', 'prediction'], deltas=['events.inference']) }}

select
    model,
    {{ class_of('prediction') }} as prediction,
    count(*) as predictions,
    count(score) as scored,
    coalesce(sum({{ micro('score') }}), 0)::bigint as score_micro
from {{ ref('stg_inference') }}
where prediction is not null
group by 1, 2
