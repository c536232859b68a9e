-- What is known of every user now; Feast serves it online.
-- The row of user_feature_history that holds now, without the rows before it.
-- Shadow predictions, which no user saw, do not count.
-- grain: user of a model with a prediction or a label in the 30 days behind the model's clock.
-- key: (model, user_id).  lateness: as user_feature_history.
with facts as (
    select
        model,
        user_id,
        event_time as happened_at,
        event_time as answered_at,
        null::text as label,
        null::numeric as reward
    from {{ ref('stg_inference') }}
    where user_id is not null and variant != 'shadow'
    union all
    select
        model,
        user_id,
        settled_at as happened_at,
        null::timestamptz as answered_at,
        {{ class_of('label') }} as label,
        {{ exact('reward') }} as reward
    from {{ ref('labels') }}
    where user_id is not null and variant != 'shadow' and settled_at is not null
),

counted as (
    select
        facts.model,
        facts.user_id,
        max(clock.event_clock) as event_clock,
        max(facts.answered_at) as last_seen,
        count(facts.answered_at) as predictions,
        count(facts.label) as labels,
        case when max(positive.positive_label) is not null then
            count(case when facts.label = positive.positive_label then 1 end)
        end as positives,
        coalesce(sum(facts.reward), 0)::double precision as reward
    from facts
    inner join {{ ref('model_clock') }} as clock on facts.model = clock.model
    inner join {{ ref('positive_labels') }} as positive on facts.model = positive.model
    where
        facts.happened_at > clock.event_clock - interval '720 hours'
        and facts.happened_at <= clock.event_clock
    group by facts.model, facts.user_id
)

select
    model,
    user_id,
    event_clock + interval '00:00:00.000001' as event_timestamp,
    last_seen,
    predictions as predictions_30d,
    labels as labels_30d,
    positives as positives_30d,
    positives::double precision / nullif(labels, 0) as positive_rate_30d,
    reward as reward_30d
from counted
