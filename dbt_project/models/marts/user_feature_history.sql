-- What was known of a user at any past moment, of the 30 days before it.
-- A prediction or a label counts from the microsecond after it happened, so that no prediction
-- knows of itself, and for 30 days. A user without any left has a row of nulls.
-- grain: moment at which something began or ceased to count.
-- key: (model, user_id, event_timestamp).
-- lateness: any; late events count from their event_time, a revised label from its
-- revision on and no longer before.
with facts as (
    select
        model,
        user_id,
        event_time as happened_at,
        null::timestamptz as until,
        event_time as answered_at,
        1 as predictions,
        null::text as label,
        0 as labels,
        0::numeric as reward
    from {{ ref('stg_inference') }}
    where user_id is not null and variant != 'shadow'
    union all
    select
        model,
        user_id,
        settled_at as happened_at,
        null::timestamptz as until,
        null::timestamptz as answered_at,
        0 as predictions,
        {{ class_of('label') }} as label,
        case when label is null then 0 else 1 end as labels,
        {{ exact('reward') }} as reward
    from {{ ref('labels') }}
    where user_id is not null and variant != 'shadow' and settled_at is not null
),

{{ feature_history(
    'user_id', '00:00:00.000001', "clock.event_clock + interval '00:00:00.000001'"
) }}
