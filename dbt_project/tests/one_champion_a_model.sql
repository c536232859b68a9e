-- A model has a champion if any of its versions is still promoted, and never two.
select
    model,
    count(*) filter (where status = 'champion') as champions,
    count(*) filter (where status in ('champion', 'superseded')) as promoted
from {{ ref('model_versions') }}
group by model
having
    count(*) filter (where status = 'champion')
    != least(count(*) filter (where status in ('champion', 'superseded')), 1)
