-- How far the output of each serving version has moved from how it began.
-- The baseline is the version's first drift_window of predictions, the current window the drift_window
-- before the model's clock; the two never overlap. Scores are compared by the tenths of the
-- baseline, by what it never held and by its commonest scores (psi), and by their whole histogram
-- (Kolmogorov-Smirnov, Wasserstein, Jensen-Shannon), predictions by their classes. Status follows
-- psi_excess, what chance alone adds to psi taken off, where chi-square is significant, too.
-- grain: version that serves, that is the champion and every version that answered in the current
-- window.  key: (model, model_version).
-- lateness: any; a late prediction may change the baseline. Both windows are whole panes, of hours
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
        policies.drift_alpha,
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
        drift_alpha,
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

outputs {{ as_inlined() }} (
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
        'outputs', ['model', 'model_version', 'is_reference'], score_block(), block='0'
    ) }}
),

score_bins as (
    select
        model,
        model_version,
        bin as bin_order,
        {{ score_value('bin') }} as value,
        coalesce(sum(predictions) filter (where is_reference), 0) as reference,
        coalesce(sum(predictions) filter (where not is_reference), 0) as current
    from opened
    group by model, model_version, bin
),

{{ histogram_distances('scores', 'score_bins', ['model', 'model_version']) }},

score_buckets as (
    select
        model,
        model_version,
        bin_order as bucket,
        reference,
        current
    from score_bins
),

{{ binned_numbers('binned_scores', 'score_buckets', ['model', 'model_version']) }},

{{ category_distances(
    'tenths', 'binned_scores', ['model', 'model_version'], 'bin'
) }},

class_counts as (
    select
        model,
        model_version,
        prediction,
        coalesce(sum(inferences) filter (where is_reference), 0) as reference,
        coalesce(sum(inferences) filter (where not is_reference), 0) as current
    from outputs
    group by model, model_version, prediction
),

{{ category_distances(
    'classes', 'class_counts', ['model', 'model_version'], 'prediction'
) }},

measured as (
    select
        spans.*,
        tenths.psi as score_psi,
        tenths.psi_excess as score_psi_excess,
        tenths.p_value as score_chi_square_p_value,
        scores.js_divergence,
        scores.ks,
        scores.wasserstein,
        classes.psi as class_psi,
        classes.psi_excess as class_psi_excess,
        classes.chi_square,
        classes.p_value as chi_square_p_value,
        classes.cramers_v,
        coalesce(tenths.reference_rows, 0) as reference_scores,
        coalesce(tenths.current_rows, 0) as current_scores,
        coalesce(classes.reference_rows, 0) as reference_rows,
        coalesce(classes.current_rows, 0) as current_rows,
        coalesce(
            least(tenths.reference_rows, tenths.current_rows) >= spans.min_sample, false
        ) as has_scores
    from spans
    {%- for distances in ['scores', 'tenths', 'classes'] %}
    left join {{ distances }}
        on
            spans.model = {{ distances }}.model
            and spans.model_version = {{ distances }}.model_version
    {%- endfor %}
    {{ fence() }}
),

tested as (
    select
        *,
        case
            when has_scores and score_chi_square_p_value < drift_alpha
                then score_psi_excess
        end as sure_score_excess,
        case when chi_square_p_value < drift_alpha then class_psi_excess end
            as sure_class_excess
    from measured
),

greatest_of_both as (
    select
        *,
        case
            when has_scores and score_psi >= coalesce(class_psi, 0) then score_psi
            else class_psi
        end as psi,
        case
            when sure_score_excess >= coalesce(sure_class_excess, 0)
                then sure_score_excess
            else sure_class_excess
        end as sure_excess,
        case
            when has_scores and score_psi_excess >= coalesce(class_psi_excess, 0)
                then score_psi_excess
            else class_psi_excess
        end as any_excess
    from tested
),

judged as (
    select
        *,
        sure_excess is not null as is_sure,
        coalesce(sure_excess, any_excess) as psi_excess
    from greatest_of_both
)

select
    -- ids
    model,
    model_version,
    -- the verdict
    case
        when
            is_sure
            and psi_excess >= psi_halt
            and least(reference_rows, current_rows) >= min_sample then 'halt'
        else {{ drift_status(
            'psi_excess', 'is_sure', 'reference_rows', 'current_rows'
        ) }}
    end as status,
    psi,
    psi_excess,
    -- scores
    score_psi,
    score_psi_excess,
    score_chi_square_p_value,
    js_divergence,
    ks,
    {{ ks_p_value('ks', 'reference_scores', 'current_scores') }} as ks_p_value,
    wasserstein,
    reference_scores,
    current_scores,
    -- predicted classes
    class_psi,
    class_psi_excess,
    chi_square,
    chi_square_p_value,
    cramers_v,
    reference_rows,
    current_rows,
    -- times
    reference_start,
    reference_end,
    window_start,
    window_end
from judged
