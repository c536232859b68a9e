-- When labels came in, by the engine's clock: how many are new since any moment.
-- Shadow predictions, which nobody learns from, are left out.
-- grain: minute in which the engine had answer and label.  key: (model, pane_start).
-- lateness: any; a revised label arrives anew.
{{ config(key=['model', 'pane_start'], deltas=['panes.labels']) }}

select
    model,
    {{ pane_start('1 minute', 'ingested_at') }} as pane_start,
    count(*) as labels
from {{ ref('labels') }}
where variant != 'shadow'
group by 1, 2
