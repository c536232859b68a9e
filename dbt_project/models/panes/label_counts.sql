-- How many examples have each label. Shadow predictions are not trained on and are left out.
-- grain: label of a model.  key: (model, label).  lateness: any.
{{ config(key=['model', 'label'], deltas=['panes.labels']) }}

select
    model,
    {{ class_of('label') }} as label,
    count(*) as examples
from {{ ref('labels') }}
where variant != 'shadow' and settled_at is not null
group by 1, 2
