-- What was known of an item at any past moment, of the 30 days before it.
-- Predictions and labels of an hour count from its end on, so that no prediction knows of itself,
-- and for 30 days. An item without any left has a row of nulls.
-- grain: end of an hour at which something began or ceased to count.
-- key: (model, item_id, event_timestamp).
-- lateness: any; late events count from the hour of their event_time, a revised label from its
-- revision on and no longer before.
with facts as (
    {{ item_facts() }}
),

{{ feature_history(
    'item_id', '1 hour',
    pane_start('1 hour', 'clock.event_clock') ~ " + interval '1 hour'"
) }}
