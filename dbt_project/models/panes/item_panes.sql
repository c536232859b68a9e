-- How often each item was predicted; shadow predictions are left out.
-- grain: hour and item.  key: (model, item_id, pane_start).  lateness: any.
{{ config(
    key=['model', 'item_id', 'pane_start'],
    deltas=['events.inference'],
    merge={'last_event_time': 'max'},
    retention='400 days'
) }}

select
    model,
    item_id,
    {{ pane_start('1 hour', 'event_time') }} as pane_start,
    count(*) as inferences,
    max(event_time) as last_event_time
from {{ ref('stg_inference') }}
where item_id is not null and variant != 'shadow'
group by 1, 2, 3
