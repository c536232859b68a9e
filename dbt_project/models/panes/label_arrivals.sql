-- When labels arrived, by the engine's clock: tells how many are new since a given time.
-- Shadow predictions are not trained on and are left out.
-- grain: minute in which the engine had both prediction and label.  key: (model, pane_start).
-- lateness: any; a revised label arrives anew.
{{ config(key=['model', 'pane_start'], deltas=['panes.labels']) }}

select
    model,
    {{ pane_start('1 minute', 'ingested_at') }} as pane_start,
    count(*) as labels,
    count(case when {{ is_reward() }} then 1 end) as rewards
from {{ ref('labels') }}
where variant != 'shadow'
group by 1, 2
