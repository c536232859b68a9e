-- How many examples have each label, and with which scores. Shadow predictions are not trained on
-- and are left out. Labels that are measures are one row, whose label is null.
-- grain: label of a model.  key: (model, label).  lateness: any.
{{ config(key=['model', 'label'], deltas=['panes.labels']) }}

with judged as (
    select
        model,
        kind,
        {{ as_class('label') }} as label,
        {{ is_number('label') }} as is_number,
        {{ is_reward() }} as is_reward,
        case when not {{ is_reward() }} then {{ micro('score') }} end as score_micro,
        case when not {{ is_reward() }} then {{ micro(squared('score')) }} end
            as score_squared_micro
    from {{ ref('labels') }}
    where variant != 'shadow' and settled_at is not null
    {{ fence() }}
)

select
    model,
    label,
    count(*) as examples,
    count(case when is_reward then 1 end) as rewards,
    count(case when kind = 'default' then 1 end) as silent,
    count(case when label is null and is_number and not is_reward then 1 end)
        as measures,
    count(score_micro) as scored,
    coalesce(sum(score_micro), 0)::bigint as score_micro,
    coalesce(sum(score_squared_micro), 0)::bigint as score_squared_micro
from judged
group by model, label
