-- Whether a canary should become champion, be taken back, or go on, and why: canary_traffic,
-- canary_share and canary_rewards, judged by the policies.
-- grain: canary version.  key: (model, model_version).
-- lateness: any; a late label or a revision counts for the prediction that it is about.
with rated as (
    select
        traffic.*,
        rewards.measure,
        rewards.mean_reward,
        rewards.mean_reward_low,
        rewards.mean_reward_high,
        rewards.champion_mean_reward,
        rewards.champion_mean_reward_low,
        rewards.champion_mean_reward_high,
        rewards.unit_groups,
        rewards.design_effect,
        rewards.difference,
        rewards.difference_low,
        rewards.difference_high,
        rewards.z,
        rewards.p_value,
        rewards.always_valid_p_value,
        rewards.always_valid_low,
        rewards.always_valid_high,
        rewards.macro_auc,
        rewards.champion_macro_auc,
        shares.planned_share,
        shares.share,
        shares.share_p_value,
        policies.max_error_rate,
        policies.max_canary_loss,
        policies.canary_alpha,
        coalesce(rewards.labels, 0) as labels,
        coalesce(rewards.champion_labels, 0) as champion_labels,
        least(coalesce(rewards.labels, 0), coalesce(rewards.champion_labels, 0))
        >= policies.min_sample as has_sample,
        traffic.errors::double precision / nullif(traffic.predictions, 0) as error_rate,
        traffic.champion_errors::double precision
        / nullif(traffic.champion_predictions, 0) as champion_error_rate,
        {{ always_valid_p_value(
            'traffic.errors', 'traffic.predictions',
            'traffic.champion_errors', 'traffic.champion_predictions'
        ) }} as error_always_valid_p_value,
        traffic.slow::double precision / nullif(traffic.timed, 0) as slow_rate,
        traffic.champion_slow::double precision / nullif(traffic.champion_timed, 0)
            as champion_slow_rate,
        {{ always_valid_p_value(
            'traffic.slow', 'traffic.timed',
            'traffic.champion_slow', 'traffic.champion_timed'
        ) }} as slow_always_valid_p_value
    from {{ ref('canary_traffic') }} as traffic
    inner join {{ ref('model_policies') }} as policies on traffic.model = policies.model
    left join {{ ref('canary_share') }} as shares
        on
            traffic.model = shares.model
            and traffic.model_version = shares.model_version
    left join {{ ref('canary_rewards') }} as rewards
        on
            traffic.model = rewards.model
            and traffic.model_version = rewards.model_version
    {{ fence() }}
),

judged as (
    select
        *,
        coalesce(
            always_valid_p_value < canary_alpha and (measure = 'share' or has_sample),
            false
        ) as has_another_reward,
        coalesce(
            error_rate > champion_error_rate
            and error_rate > max_error_rate
            and error_always_valid_p_value < canary_alpha, false
        ) as has_more_errors,
        coalesce(
            slow_rate > champion_slow_rate
            and slow_rate > {{ max_slow_share() }}
            and slow_always_valid_p_value < canary_alpha, false
        ) as is_slower,
        coalesce(measure = 'share' and mean_reward + champion_mean_reward = 0, false)
            as has_no_reward
    from rated
),

decided as (
    select
        *,
        case
            when champion_version is null then 'no champion'
            when has_another_reward and difference < 0 then 'lower reward'
            when has_more_errors then 'more errors'
            when is_slower then 'slower'
            when {{ is_unplanned('share_p_value') }} then 'sample ratio'
            when has_another_reward and difference > 0 then 'higher reward'
            when not has_sample then 'too few labels'
            when unit_groups < {{ min_unit_groups() }} then 'too few users'
            when has_no_reward then 'no reward'
            when always_valid_low > -max_canary_loss * abs(champion_mean_reward)
                then 'no loss'
            else 'undecided'
        end as reason
    from judged
    {{ fence() }}
)

select
    -- ids
    model,
    model_version,
    champion_version,
    began_at,
    -- verdict
    case
        when reason in ('lower reward', 'more errors', 'slower') then 'rollback'
        when reason in ('higher reward', 'no loss') then 'promote'
        else 'continue'
    end as verdict,
    reason,
    -- predictions
    predictions,
    champion_predictions,
    errors,
    champion_errors,
    error_rate,
    champion_error_rate,
    error_always_valid_p_value,
    planned_share,
    share,
    share_p_value,
    latency_p95_ms,
    champion_latency_p95_ms,
    slow_rate,
    champion_slow_rate,
    slow_always_valid_p_value,
    -- rewards
    labels,
    champion_labels,
    measure,
    mean_reward,
    mean_reward_low,
    mean_reward_high,
    champion_mean_reward,
    champion_mean_reward_low,
    champion_mean_reward_high,
    unit_groups,
    design_effect,
    difference,
    difference_low,
    difference_high,
    z,
    p_value,
    always_valid_p_value,
    always_valid_low,
    always_valid_high,
    macro_auc,
    champion_macro_auc
from decided
