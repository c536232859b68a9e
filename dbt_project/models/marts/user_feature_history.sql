-- What was known of a user at any past moment, of the 30 days before it.
-- An answer or a label counts from the microsecond after it happened, so that no answer knows of
-- itself, and for 30 days. A user of whom nothing is left has a row of nulls.
-- grain: moment at which something began or ceased to count.
-- key: (model, user_id, event_timestamp).
-- lateness: any; late events count from the moment that they speak of, a revised label from its
-- revision on and no longer before.
with facts as (
    select
        model,
        user_id,
        event_time as happened_at,
        1 as answers,
        null::text as label,
        0::numeric as reward
    from {{ ref('stg_inference') }}
    where user_id is not null and variant != 'shadow'
    union all
    select
        model,
        user_id,
        known_at as happened_at,
        0 as answers,
        label,
        {{ exact('reward') }} as reward
    from {{ ref('labels') }}
    where user_id is not null and variant != 'shadow'
),

-- Each of them once where it begins to count, and once where it ceases to.
steps as (
    select
        model,
        user_id,
        happened_at,
        answers,
        label,
        reward,
        generate_series(0, 1) as ceased
    from facts
),

signed as (
    select
        steps.model,
        steps.user_id,
        steps.happened_at + interval '1 microsecond' + steps.ceased * interval '30 days'
            as event_timestamp,
        case when steps.answers > 0 and steps.ceased = 0 then steps.happened_at end
            as answered_at,
        (1 - 2 * steps.ceased) * steps.answers as answers,
        case
            when steps.label is not null then 1 - 2 * steps.ceased
            else 0
        end as labels,
        case
            when steps.label = positive.positive_label then 1 - 2 * steps.ceased
            else 0
        end as positives,
        (1 - 2 * steps.ceased) * steps.reward as reward
    from steps
    inner join {{ ref('positive_labels') }} as positive on steps.model = positive.model
),

moments as (
    select
        model,
        user_id,
        event_timestamp,
        max(answered_at) as answered_at,
        sum(answers) as answers,
        sum(labels) as labels,
        sum(positives) as positives,
        sum(reward) as reward
    from signed
    group by model, user_id, event_timestamp
),

rolling as (
    select
        model,
        user_id,
        event_timestamp,
        max(answered_at) over until_then as answered_at,
        (sum(answers) over until_then)::bigint as answers,
        (sum(labels) over until_then)::bigint as labels,
        (sum(positives) over until_then)::bigint as positives,
        (sum(reward) over until_then)::double precision as reward
    from moments
    window until_then as (
        partition by model, user_id
        order by event_timestamp
        rows between unbounded preceding and current row
    )
)

select
    rolling.model,
    rolling.user_id,
    rolling.event_timestamp,
    case when rolling.answers > 0 then rolling.answered_at end as last_seen
    {%- for count in ['answers', 'labels', 'positives'] %},
    case when rolling.answers + rolling.labels > 0 then rolling.{{ count }} end
        as {{ count }}_30d
    {%- endfor %},
    rolling.positives::double precision / nullif(rolling.labels, 0)
        as positive_rate_30d,
    case when rolling.answers + rolling.labels > 0 then rolling.reward end as reward_30d
from rolling
inner join {{ ref('model_clock') }} as clock on rolling.model = clock.model
where rolling.event_timestamp <= clock.event_clock + interval '1 microsecond'
