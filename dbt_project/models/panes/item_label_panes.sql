-- Labels and rewards of predictions about an item, by the time from which they count.
-- grain: hour, item and label.  key: all but the measures.
-- lateness: any; a revised label moves.
{{ config(
    key=['model', 'item_id', 'pane_start', 'label'],
    deltas=['panes.labels'],
    retention='400 days'
) }}

select
    model,
    item_id,
    {{ pane_start('1 hour', 'settled_at') }} as pane_start,
    {{ as_class('label') }} as label,
    count(*) as labels,
    coalesce(sum({{ exact('reward') }}), 0) as reward
from {{ ref('labels') }}
where item_id is not null and variant != 'shadow' and settled_at is not null
group by 1, 2, 3, 4
