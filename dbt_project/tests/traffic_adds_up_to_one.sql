-- A model that has a champion gives away every request exactly once.
select
    model,
    sum(traffic) as traffic
from {{ ref('serving_plan') }}
group by model
having
    count(*) filter (where variant = 'champion') != 0
    and abs(sum(traffic) - 1) > 0.000001
