-- Whether a version that serves should be taken back now, and why.
-- Due when errors pass their share over the rollback window by more than chance and have not
-- ceased in its second half, when canary_verdict finds a canary worse, when more of the champion's
-- answers were slow after its promotion than of the version before, by more than chance, and still
-- are (champion_latency), or when its output left its baseline (the circuit breaker: that version is
-- halted).
-- trigger_id names the version and when it came into its place: it is taken back once.
-- A version that serves without any model event can only be halted.
-- grain: version that serves.  key: (model, model_version).
-- lateness: any; the window is the rollback_window before the model's clock.
with earlier as (
    select
        model,
        model_version
    from {{ ref('model_versions') }}
    where place = 2
),

taken_back as (
    select
        model,
        max(event_time) as event_time
    from {{ ref('stg_model_events') }}
    where event = 'rolled_back'
    group by model
),

-- Else these would be measured again for every version that they are joined to.
verdicts {{ as_materialized() }} (
    select
        model,
        model_version,
        champion_version,
        verdict,
        reason,
        measure,
        predictions,
        labels,
        mean_reward,
        champion_mean_reward,
        error_rate,
        champion_error_rate,
        slow_rate,
        champion_slow_rate
    from {{ ref('canary_verdict') }}
),

outputs {{ as_materialized() }} (
    select
        model,
        model_version,
        status,
        psi_excess
    from {{ ref('prediction_drift') }}
),

facts as (
    select
        serving.*,
        policies.min_sample,
        policies.cooldown,
        case
            when serving.variant = 'canary' then verdict.champion_version
            when told.status = 'champion' then earlier.model_version
        end as target_version,
        verdict.reason as verdict,
        verdict.measure,
        verdict.predictions as canary_predictions,
        verdict.labels,
        verdict.mean_reward,
        verdict.champion_mean_reward,
        verdict.error_rate as canary_error_rate,
        verdict.champion_error_rate,
        verdict.slow_rate as canary_slow_rate,
        verdict.champion_slow_rate,
        latency.slow_rate,
        latency.earlier_slow_rate,
        latency.earlier_version as faster_version,
        coalesce(
            latency.timed >= policies.min_sample
            and latency.slow_rate > {{ max_slow_share() }}
            and latency.slow_rate > latency.earlier_slow_rate
            and latency.slow_always_valid_p_value < policies.canary_alpha
            and latency.latest_slow_rate
            > {{ max_slow_share() }} * policies.clear_ratio,
            false
        ) as is_slower,
        coalesce(
            serving.error_rate_low > policies.max_error_rate
            and serving.latest_error_rate
            > policies.max_error_rate * policies.clear_ratio,
            false
        ) as fails,
        coalesce(verdict.verdict = 'rollback', false) as canary_is_worse,
        coalesce(drift.status = 'halt' and serving.variant = 'champion', false)
            as output_left,
        drift.psi_excess as output_psi,
        taken_back.event_time as last_rollback_at
    from {{ ref('serving_errors') }} as serving
    inner join {{ ref('model_policies') }} as policies on serving.model = policies.model
    left join {{ ref('model_versions') }} as told
        on
            serving.model = told.model
            and serving.model_version = told.model_version
    left join verdicts as verdict
        on
            serving.model = verdict.model
            and serving.model_version = verdict.model_version
    left join outputs as drift
        on
            serving.model = drift.model
            and serving.model_version = drift.model_version
    left join {{ ref('champion_latency') }} as latency
        on
            serving.model = latency.model
            and serving.model_version = latency.model_version
    left join earlier on serving.model = earlier.model
    left join taken_back on serving.model = taken_back.model
    where
        told.status is null
        or told.status not in ('superseded', 'rolled_back', 'retired')
),

judged as (
    select
        *,
        fails or is_slower or canary_is_worse or output_left as is_wanted,
        case verdict
            when 'lower reward'
                then
                    measure || ' ' || {{ with_decimals('abs(mean_reward)', 3) }}
                    || ' against '
                    || {{ with_decimals('abs(champion_mean_reward)', 3) }}
            when 'more errors'
                then
                    {{ with_decimals('100 * canary_error_rate', 1) }} || ' % against '
                    || {{ with_decimals('100 * champion_error_rate', 1) }} || ' %'
            when 'slower'
                then
                    {{ with_decimals('100 * canary_slow_rate', 1) }}
                    || ' % slow answers against '
                    || {{ with_decimals('100 * champion_slow_rate', 1) }} || ' %'
        end as verdict_numbers,
        case
            when not (canary_is_worse or is_slower) and predictions < min_sample
                then predictions || ' predictions, of at least ' || min_sample
            when variant = 'champion' and window_end < last_rollback_at + cooldown
                then
                    'cooling down until '
                    || {{ utc_text('(last_rollback_at + cooldown)') }}
                    || ' UTC'
            when target_version is null and not output_left
                then 'no earlier version to return to'
        end as obstacle
    from facts
)

select
    model,
    model_version,
    variant,
    model || '/' || model_version || '/'
    || floor(extract(epoch from serving_since))::bigint::text as trigger_id,
    is_wanted and obstacle is null as due,
    case
        when not is_wanted then 'none'
        when target_version is null then 'halt'
        else 'rollback'
    end as action,
    target_version,
    case
        when is_wanted then
            concat_ws(
                '; ',
                case when fails then
                    'errors in '
                    || {{ with_decimals('100 * error_rate', 1) }}
                    || ' % of predictions'
                end,
                case when is_slower then
                    'slow answers to '
                    || {{ with_decimals('100 * slow_rate', 1) }}
                    || ' % of predictions, '
                    || {{ with_decimals('100 * earlier_slow_rate', 1) }}
                    || ' % with ' || faster_version
                end,
                case when canary_is_worse
                    then 'canary: ' || verdict || coalesce(', ' || verdict_numbers, '')
                end,
                case when output_left then
                    'output left its baseline, psi '
                    || {{ with_decimals('output_psi', 2) }}
                end
            )
    end as reason,
    case when is_wanted then obstacle end as held_back_by,
    predictions,
    errors,
    error_rate,
    latest_error_rate,
    slow_rate,
    earlier_slow_rate,
    output_psi,
    canary_predictions,
    labels,
    mean_reward,
    champion_mean_reward,
    canary_error_rate,
    champion_error_rate,
    canary_slow_rate,
    champion_slow_rate,
    window_start,
    window_end
from judged
