-- The traffic of a model with a champion adds up to 1.
select
    model,
    sum(traffic) as traffic
from {{ ref('serving_plan') }}
group by model
having
    count(*) filter (where variant = 'champion') != 0
    and abs(sum(traffic) - 1) > 0.000001
