-- How far the output of each serving version has moved from how it began.
-- The baseline is the version's first drift_window of answers, the current window the drift_window
-- before the model's clock; the two never overlap. Scores are compared by the tenths of the
-- baseline (psi) and by their whole histogram (Kolmogorov-Smirnov, Wasserstein, Jensen-Shannon),
-- predictions by their classes. P-values stand beside; status follows the size of the effect.
-- grain: version that serves, that is the champion and every version that answered in the current
-- window.  key: (model, model_version).
-- lateness: any; a late answer may change the baseline. Both windows are whole panes, of hours
-- where they begin more than two days before the clock.
with champion as (
    select
        model,
        model_version
    from {{ ref('model_versions') }}
    where status = 'champion'
),

activity as (
    select
        model,
        model_version,
        min(first_event_time) as first_event_time,
        max(last_event_time) as last_event_time
    from {{ ref('model_activity') }}
    where variant != 'shadow'
    group by model, model_version
),

serving as (
    select
        activity.model,
        activity.model_version,
        clock.event_clock,
        policies.min_sample,
        policies.psi_alert,
        policies.psi_halt,
        activity.first_event_time as reference_from,
        activity.first_event_time + policies.drift_window as reference_to,
        clock.event_clock - policies.drift_window as window_from,
        {{ pane_start('1 hour', 'clock.event_clock') }} - interval '2 days' as fine_from
    from activity
    inner join {{ ref('model_clock') }} as clock on activity.model = clock.model
    inner join {{ ref('model_policies') }} as policies
        on activity.model = policies.model
    left join champion on activity.model = champion.model
    where
        activity.model_version = champion.model_version
        or activity.last_event_time >= clock.event_clock - policies.drift_window
),

grains as (
    select
        *,
        case when reference_from < fine_from then '1 hour' else '1 minute' end
            as reference_grain,
        case when window_from < fine_from then '1 hour' else '1 minute' end
            as window_grain
    from serving
),

aligned as (
    select
        *,
        case
            when reference_grain = '1 hour'
                then {{ pane_start('1 hour', 'reference_from') }}
            else {{ pane_start('1 minute', 'reference_from') }}
        end as reference_start,
        case
            when reference_grain = '1 hour'
                then {{ pane_start('1 hour', 'reference_to') }} + interval '1 hour'
            else {{ pane_start('1 minute', 'reference_to') }} + interval '1 minute'
        end as reference_end,
        case
            when window_grain = '1 hour' then {{ pane_start('1 hour', 'window_from') }}
            else {{ pane_start('1 minute', 'window_from') }}
        end as first_window_pane
    from grains
),

spans as (
    select
        model,
        model_version,
        min_sample,
        psi_alert,
        psi_halt,
        reference_grain,
        window_grain,
        reference_start,
        reference_end,
        greatest(first_window_pane, reference_end) as window_start,
        greatest(event_clock, reference_end) as window_end
    from aligned
),

answers {{ as_inlined() }} (
    {%- for is_reference, grain, bounds in [
        ('true', 'reference_grain', 'spans.reference_start <= panes.pane_start
            and spans.reference_end > panes.pane_start'),
        ('false', 'window_grain', 'spans.window_start <= panes.pane_start')
    ] %}
    {%- if not loop.first %}
    union all
    {%- endif %}
    select
        spans.model,
        spans.model_version,
        {{ is_reference }} as is_reference,
        panes.prediction,
        panes.inferences,
        panes.counts
    from spans
    inner join {{ ref('inference_panes') }} as panes
        on
            spans.model = panes.model
            and spans.{{ grain }} = panes.grain
            and spans.model_version = panes.model_version
            and {{ bounds }}
    where panes.variant != 'shadow'
    {%- endfor %}
),

opened as (
    {{ opened_blocks(
        'answers', ['model', 'model_version', 'is_reference'], score_block(), block='0'
    ) }}
),

score_bins as (
    select
        model,
        model_version,
        bin as bin_order,
        {{ score_value('bin') }} as value,
        coalesce(sum(answers) filter (where is_reference), 0) as reference,
        coalesce(sum(answers) filter (where not is_reference), 0) as current
    from opened
    group by model, model_version, bin
),

{{ histogram_distances('scores', 'score_bins', ['model', 'model_version']) }},

score_ranks as (
    select
        model,
        model_version,
        reference,
        current,
        sum(reference) over (
            partition by model, model_version
            order by bin_order
            rows between unbounded preceding and current row
        ) - reference as reference_below,
        sum(reference) over (
            partition by model, model_version
            order by bin_order
            rows between unbounded preceding and unbounded following
        ) as reference_scores
    from score_bins
),

score_deciles as (
    select
        model,
        model_version,
        least(floor(10 * reference_below / nullif(reference_scores, 0)), 9) as decile,
        sum(reference) as reference,
        sum(current) as current
    from score_ranks
    group by model, model_version, decile
),

{{ category_distances('deciles', 'score_deciles', ['model', 'model_version']) }},

predictions as (
    select
        model,
        model_version,
        prediction,
        coalesce(sum(inferences) filter (where is_reference), 0) as reference,
        coalesce(sum(inferences) filter (where not is_reference), 0) as current
    from answers
    group by model, model_version, prediction
),

{{ category_distances('classes', 'predictions', ['model', 'model_version']) }},

measured as (
    select
        spans.*,
        deciles.psi as score_psi,
        scores.js_divergence,
        scores.ks,
        scores.wasserstein,
        classes.psi as class_psi,
        classes.chi_square,
        classes.degrees,
        classes.cramers_v,
        coalesce(deciles.reference_rows, 0) as reference_scores,
        coalesce(deciles.current_rows, 0) as current_scores,
        coalesce(classes.reference_rows, 0) as reference_rows,
        coalesce(classes.current_rows, 0) as current_rows,
        case
            when
                least(deciles.reference_rows, deciles.current_rows)
                >= spans.min_sample then deciles.psi
        end as trusted_score_psi
    from spans
    {%- for distances in ['scores', 'deciles', 'classes'] %}
    left join {{ distances }}
        on
            spans.model = {{ distances }}.model
            and spans.model_version = {{ distances }}.model_version
    {%- endfor %}
),

judged as (
    select
        *,
        case
            when trusted_score_psi >= coalesce(class_psi, 0) then trusted_score_psi
            else class_psi
        end as psi
    from measured
)

select
    -- ids
    model,
    model_version,
    -- the verdict
    case
        when psi is null or least(reference_rows, current_rows) < min_sample
            then 'too few rows'
        when psi >= psi_halt then 'halt'
        when psi >= psi_alert then 'drifted'
        when psi >= 0.1 then 'moving'
        else 'stable'
    end as status,
    psi,
    -- scores
    score_psi,
    js_divergence,
    ks,
    {{ ks_p_value('ks', 'reference_scores', 'current_scores') }} as ks_p_value,
    wasserstein,
    reference_scores,
    current_scores,
    -- predicted classes
    class_psi,
    chi_square,
    case when degrees > 0 then {{ chi_square_p_value('chi_square', 'degrees') }} end
        as chi_square_p_value,
    cramers_v,
    reference_rows,
    current_rows,
    -- times
    reference_start,
    reference_end,
    window_start,
    window_end
from judged
