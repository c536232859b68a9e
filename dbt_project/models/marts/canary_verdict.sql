-- Whether a canary should become champion, be taken back, or go on, and why. Both are compared
-- over the predictions given since the canary began, by the rewards of their labels, by errors and
-- by latency.
-- grain: canary version.  key: (model, model_version).
-- lateness: any; a late label or a revision counts for the prediction that it speaks of. Silence counts as
-- the default_label (macros/silence.sql).
-- The hour in which it began is read in panes of 10 seconds (labels: of a minute) while these are
-- kept, else whole.
with versions as (
    select
        model,
        model_version,
        status,
        changed_at,
        max(case when status = 'champion' then model_version end) over (
            partition by model
            order by model_version
            rows between unbounded preceding and unbounded following
        ) as champion_version
    from {{ ref('model_versions') }}
),

canaries as (
    select
        canary.model,
        canary.model_version,
        canary.champion_version,
        canary.changed_at as began_at,
        clock.event_clock,
        policies.min_sample,
        policies.max_error_rate,
        policies.max_canary_loss,
        policies.canary_alpha,
        policies.default_label,
        {{ settled_at() }} as settled_at,
        {{ pane_start('1 hour', 'canary.changed_at') }} as first_hour,
        {{ pane_start('1 hour', 'canary.changed_at') }}
        >= {{ pane_start('1 hour', 'clock.event_clock') }} - interval '2 days'
            as is_recent
    from versions as canary
    inner join {{ ref('model_policies') }} as policies on canary.model = policies.model
    left join {{ ref('model_clock') }} as clock on canary.model = clock.model
    where canary.status = 'canary'
),

sides as (
    select
        *,
        model_version as side_version,
        'canary' as variant
    from canaries
    union all
    select
        *,
        champion_version as side_version,
        'champion' as variant
    from canaries
    where champion_version is not null
),

spans as (
    select
        model,
        model_version,
        side_version,
        variant,
        '1 hour' as grain,
        case when is_recent then first_hour + interval '1 hour' else first_hour end
            as span_start,
        event_clock + interval '1 second' as span_end
    from sides
    union all
    select
        model,
        model_version,
        side_version,
        variant,
        '10 seconds' as grain,
        {{ pane_start('10 seconds', 'began_at') }} as span_start,
        first_hour + interval '1 hour' as span_end
    from sides
    where is_recent
),

judged_sides as (
    select
        model,
        model_version,
        side_version,
        variant,
        default_label,
        settled_at,
        event_clock,
        case when is_recent then first_hour + interval '1 hour' else first_hour end
            as start_hour,
        case when is_recent then {{ pane_start('1 minute', 'began_at') }} end
            as first_minute
    from sides
),

judged_spans as (
    {{ label_spans(
        'judged_sides', ['model', 'model_version', 'side_version', 'variant']
    ) }}
),

prediction_rows as (
    select
        spans.model,
        spans.model_version,
        spans.variant,
        panes.inferences,
        panes.errors,
        panes.block,
        panes.counts
    from spans
    inner join {{ ref('latency_panes') }} as panes
        on
            spans.model = panes.model
            and spans.grain = panes.grain
            and spans.side_version = panes.model_version
            and spans.variant = panes.variant
            and spans.span_start <= panes.pane_start
            and spans.span_end > panes.pane_start
),

predictions as (
    select
        model,
        model_version,
        sum(case when variant = 'canary' then inferences else 0 end)::bigint as predictions,
        sum(case when variant = 'canary' then errors else 0 end)::bigint as errors,
        sum(case when variant = 'champion' then inferences else 0 end)::bigint
            as champion_predictions,
        sum(case when variant = 'champion' then errors else 0 end)::bigint
            as champion_errors
    from prediction_rows
    group by model, model_version
),

latency_bins as (
    {{ opened_blocks(
        'prediction_rows', ['model', 'model_version', 'variant'], sketch_block()
    ) }}
),

latency_ranks as (
    select
        model,
        model_version,
        variant,
        bin,
        sum(predictions) over (
            partition by model, model_version, variant
            order by bin
            rows between unbounded preceding and current row
        ) as up_to,
        sum(predictions) over (
            partition by model, model_version, variant
            order by bin
            rows between unbounded preceding and unbounded following
        ) as total
    from latency_bins
),

latency_places as (
    select
        model,
        model_version,
        min(bin) filter (where variant = 'canary' and up_to >= 0.95 * total) as bin,
        min(bin) filter (where variant = 'champion' and up_to >= 0.95 * total)
            as champion_bin
    from latency_ranks
    group by model, model_version
),

label_rows as (
    select
        spans.model,
        spans.model_version,
        spans.variant = 'champion' as is_base,
        panes.examples,
        panes.reward,
        panes.reward_squared
    from judged_spans as spans
    inner join {{ ref('label_panes') }} as panes
        on
            spans.model = panes.model
            and spans.grain = panes.grain
            and spans.side_version = panes.model_version
            and spans.variant = panes.variant
            and spans.span_start <= panes.pane_start
            and spans.span_end > panes.pane_start
    where panes.clock = 'inference' and panes.examples != 0
    union all
    select
        model,
        tested_version as model_version,
        variant = 'champion' as is_base,
        examples,
        reward,
        reward_squared
    from (
        {{ silence(
            'judged_spans',
            ['model', 'model_version as tested_version'],
            'spans.side_version = panes.model_version and spans.variant = panes.variant'
        ) }}
    ) as silent
),

{{ compared_rewards(
    'compared', 'label_rows', ['model', 'model_version'], 'champion'
) }},

measured as (
    select
        canaries.model,
        canaries.model_version,
        canaries.champion_version,
        canaries.began_at,
        canaries.min_sample,
        canaries.max_error_rate,
        canaries.max_canary_loss,
        canaries.canary_alpha,
        coalesce(predictions.predictions, 0) as predictions,
        coalesce(predictions.errors, 0) as errors,
        coalesce(predictions.champion_predictions, 0) as champion_predictions,
        coalesce(predictions.champion_errors, 0) as champion_errors,
        {{ sketch_value('latency_places.bin') }} as latency_p95_ms,
        {{ sketch_value('latency_places.champion_bin') }} as champion_latency_p95_ms,
        coalesce(compared.labels, 0) as labels,
        coalesce(compared.champion_labels, 0) as champion_labels,
        compared.measure,
        compared.mean_reward,
        compared.mean_reward_low,
        compared.mean_reward_high,
        compared.champion_mean_reward,
        compared.champion_mean_reward_low,
        compared.champion_mean_reward_high,
        compared.difference,
        compared.difference_low,
        compared.difference_high,
        compared.z,
        compared.p_value,
        compared.always_valid_p_value
    from canaries
    left join predictions
        on
            canaries.model = predictions.model
            and canaries.model_version = predictions.model_version
    left join latency_places
        on
            canaries.model = latency_places.model
            and canaries.model_version = latency_places.model_version
    left join compared
        on
            canaries.model = compared.model
            and canaries.model_version = compared.model_version
),

rated as (
    select
        *,
        errors::double precision / nullif(predictions, 0) as error_rate,
        champion_errors::double precision / nullif(champion_predictions, 0)
            as champion_error_rate,
        {{ always_valid_p_value(
            'errors', 'predictions', 'champion_errors', 'champion_predictions'
        ) }} as error_always_valid_p_value,
        least(labels, champion_labels) >= min_sample as has_sample
    from measured
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
            when has_another_reward and difference > 0 then 'higher reward'
            when not has_sample then 'too few labels'
            when has_no_reward then 'no reward'
            when difference_low > -max_canary_loss then 'no loss'
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
        when reason in ('lower reward', 'more errors') then 'rollback'
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
    latency_p95_ms,
    champion_latency_p95_ms,
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
    difference,
    difference_low,
    difference_high,
    z,
    p_value,
    always_valid_p_value
from decided
