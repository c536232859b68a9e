-- Which times hold min_sample predictions of a model: the first of them and the newest. Windows of
-- drift reach that far, so that they fit modest traffic; a single prediction of another age is no
-- beginning, as the first sample came within 30 days. Shadow predictions do not count.
-- grain: model that had min_sample predictions within 30 days.  key: model.
-- lateness: any; a late prediction may move either.
{{ config(stored=true) }}

with spans as (
    select
        model,
        min_sample
    from {{ ref('model_policies') }}
)

select
    spans.model,
    earliest.first_hour,
    earliest.last_hour,
    newest.newest_ten_seconds,
    newest.newest_hour
from spans
inner join {{ lateral() }} (
    {{ first_sample('spans', ['model']) }}
) as earliest on spans.model = earliest.model
left join {{ lateral() }} (
    {{ newest_sample('spans', ['model']) }}
) as newest on spans.model = newest.model
