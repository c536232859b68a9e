-- What was known of a user at any past moment, of the 30 days before it.
-- A prediction or a label counts from the microsecond after it happened, so that no prediction
-- knows of itself, and for 30 days. A user without any left has a row of nulls.
-- grain: moment at which something began or ceased to count.
-- key: (model, user_id, event_timestamp).
-- lateness: any; late events count from their event_time, a revised label from its
-- revision on and no longer before.
with facts as (
    {{ request_facts('user_id') }}
),

{{ feature_history(
    'user_id', '00:00:00.000001', "clock.event_clock + interval '00:00:00.000001'"
) }}
