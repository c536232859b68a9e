-- How many examples carry each label.
-- grain: label of a model.  key: (model, label).  lateness: any.
{{ config(key=['model', 'label'], drivers=['panes.labels']) }}

select
    model,
    label,
    count(*) as examples
from {{ ref('labels') }}
group by model, label
