-- How far the output of each serving version is from how it began. prediction_drift judges it.
-- Baseline and current window are those of output_windows. Scores are compared by the tenths of the
-- baseline, by what it never held and by its commonest scores (psi, Jensen-Shannon), and by their
-- whole histogram (Kolmogorov-Smirnov, Wasserstein), predictions by their classes, those beyond the
-- 256 that a pane keeps apart as one.
-- grain: version that serves.  key: (model, model_version).
-- lateness: any; a late prediction may change the baseline.
with spans as (
    select * from {{ ref('output_windows') }}
),

sides as (
    select
        model,
        model_version,
        unnest(array[true, false]) as is_reference,
        unnest(array[reference_grain, window_grain]) as grain,
        unnest(array[reference_start, window_start]) as side_start,
        unnest(array[reference_end, window_until]) as side_end
    from (
        select
            *,
            window_end + interval '00:00:00.000001' as window_until
        from spans
    ) as windows
),

outputs {{ as_inlined() }} (
    select
        sides.model,
        sides.model_version,
        sides.is_reference,
        panes.pane_start,
        panes.variant,
        panes.segment,
        panes.prediction,
        panes.inferences,
        panes.counts
    from sides
    inner join {{ ref('inference_panes') }} as panes
        on
            sides.model = panes.model
            and sides.grain = panes.grain
            and sides.model_version = panes.model_version
            and sides.side_start <= panes.pane_start
            and sides.side_end > panes.pane_start
    where panes.variant != 'shadow'
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
        bin as bucket,
        {{ score_value('bin') }} as value,
        coalesce(sum(predictions) filter (where is_reference), 0) as reference,
        coalesce(sum(predictions) filter (where not is_reference), 0) as current
    from opened
    group by model, model_version, bin
),

{{ wasserstein_distances('scores', 'score_bins', ['model', 'model_version']) }},

{{ binned_numbers('binned_scores', 'score_bins', ['model', 'model_version']) }},

gaps as (
    select
        *,
        max(gap) over (
            partition by model, model_version
            order by bin
            rows between unbounded preceding and unbounded following
        ) as ks
    from binned_scores
),

{{ category_distances('tenths', 'gaps', ['model', 'model_version', 'ks'], 'bin') }},

{{ category_thresholds(
    'thresholds', 'outputs', ['model', 'model_version'],
    ['is_reference', 'pane_start', 'variant', 'segment'], 'prediction'
) }}

predicted as (
    select
        outputs.model,
        outputs.model_version,
        {{ compared_category('outputs.prediction', 'thresholds') }} as prediction,
        outputs.is_reference,
        outputs.inferences
    from outputs
    {{ join_thresholds('thresholds', 'outputs', ['model', 'model_version']) }}
),

class_counts as (
    select
        model,
        model_version,
        prediction,
        coalesce(sum(inferences) filter (where is_reference), 0) as reference,
        coalesce(sum(inferences) filter (where not is_reference), 0) as current
    from predicted
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
        tenths.js_divergence,
        tenths.ks,
        scores.wasserstein,
        classes.psi as class_psi,
        classes.psi_excess as class_psi_excess,
        classes.chi_square,
        classes.p_value as chi_square_p_value,
        classes.cramers_v,
        coalesce(tenths.reference_rows, 0) as reference_scores,
        coalesce(tenths.current_rows, 0) as current_scores,
        coalesce(classes.reference_rows, 0) as reference_rows,
        coalesce(classes.current_rows, 0) as current_rows
    from spans
    {%- for distances in ['scores', 'tenths', 'classes'] %}
    left join {{ distances }}
        on
            spans.model = {{ distances }}.model
            and spans.model_version = {{ distances }}.model_version
    {%- endfor %}
    {{ fence() }}
)

select
    -- ids
    model,
    model_version,
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
from measured
