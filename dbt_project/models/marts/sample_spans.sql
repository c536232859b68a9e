-- Which times hold min_sample predictions of a model: the first of them and the newest. Windows of
-- drift reach that far, so that they fit modest traffic; a single prediction of another age is no
-- beginning, as the first sample came within 30 days. Shadow predictions do not count.
-- grain: model that had min_sample predictions within 30 days.  key: model.
-- lateness: any; a late prediction may move either.
{{ config(stored=true) }}

with spans {{ as_inlined() }} (
    select
        model,
        min_sample
    from {{ ref('model_policies') }}
),

{{ first_samples('earliest', 'spans', ['model']) }},

{{ newest_samples('newest', 'spans', ['model']) }}

select
    earliest.model,
    earliest.first_hour,
    earliest.last_hour,
    newest.newest_ten_seconds,
    newest.newest_hour
from earliest
left join newest on earliest.model = newest.model
