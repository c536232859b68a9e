-- How far each feature has moved from what the serving version was trained on.
-- The population stability index, psi = sum((current - reference) * ln(current / reference)), is
-- over the bins of feature_reference, empty ones smoothed by half a row; beside it stand distances
-- of the whole histograms (Kolmogorov-Smirnov, Wasserstein, Jensen-Shannon) and p-values. Status
-- follows the size of the effect: with rows enough, any difference is significant.
-- grain: feature of a model.  key: (model, feature).
-- lateness: any; windows are those of drift_windows.
with panes as (
    {{ compared_features() }}
),

numbers as (
    {{ opened_blocks('panes', ['model', 'feature', 'is_reference'], sketch_block()) }}
),

counted as (
    select
        model,
        feature,
        bin as bucket,
        null as category,
        coalesce(sum(answers) filter (where is_reference), 0) as reference,
        coalesce(sum(answers) filter (where not is_reference), 0) as current
    from numbers
    group by 1, 2, 3
    union all
    select
        model,
        feature,
        null as bucket,
        case when category is null then type else 'category ' || category end
            as category,
        coalesce(sum(answers) filter (where is_reference), 0) as reference,
        coalesce(sum(answers) filter (where not is_reference), 0) as current
    from panes
    where block is null
    group by 1, 2, 4
),

placed as (
    select
        model,
        feature,
        bucket,
        category,
        reference,
        current,
        coalesce(sum(reference) over (
            partition by model, feature, (bucket is not null)
            order by bucket
            rows between unbounded preceding and 1 preceding
        ), 0) as reference_below,
        sum(reference) over (
            partition by model, feature, (bucket is not null)
            order by bucket
            rows between unbounded preceding and unbounded following
        ) as reference_numbers
    from counted
),

named as (
    select
        model,
        feature,
        bucket is not null as numeric_bin,
        coalesce(category, 'decile ' || least(
            floor(10 * reference_below / nullif(reference_numbers, 0)), 9
        )::text) as bin,
        reference,
        current
    from placed
),

binned as (
    select
        model,
        feature,
        bin,
        bool_or(numeric_bin) as numeric_bin,
        sum(reference) as reference,
        sum(current) as current
    from named
    group by 1, 2, 3
),

shared as (
    select
        model,
        feature,
        numeric_bin,
        reference,
        current,
        sum(reference) over by_feature as reference_rows,
        sum(current) over by_feature as current_rows,
        count(*) over by_feature as bins
    from binned
    window by_feature as (
        partition by model, feature
        order by bin
        rows between unbounded preceding and unbounded following
    )
),

measured as (
    select
        model,
        feature,
        case when bool_or(numeric_bin) then 'numeric' else 'categorical' end as kind,
        max(bins) as bins,
        max(reference_rows)::bigint as reference_rows,
        max(current_rows)::bigint as current_rows,
        sum({{ psi_term(
            smoothed_share('reference', 'reference_rows', 'bins'),
            smoothed_share('current', 'current_rows', 'bins')
        ) }}) as psi,
        sum(
            power(
                current * reference_rows - reference * current_rows, 2
            )::double precision
            / nullif(reference_rows * current_rows * (reference + current), 0)
        ) as chi_square
    from shared
    group by 1, 2
),

histograms as (
    select
        model,
        feature,
        bucket as bin_order,
        {{ sketch_value('bucket') }} as value,
        reference,
        current
    from counted
    where bucket is not null
),

{{ histogram_distances('distances', 'histograms', ['model', 'feature']) }},

judged as (
    select
        measured.model,
        spans.model_version,
        measured.feature,
        measured.kind,
        measured.psi,
        case
            when least(measured.reference_rows, measured.current_rows)
                < policies.min_sample then 'too few rows'
            when measured.psi >= policies.psi_alert then 'drifted'
            when measured.psi >= 0.1 then 'moving'
            else 'stable'
        end as status,
        case when measured.current_rows > 0 and measured.reference_rows > 0
            then measured.chi_square end as chi_square,
        measured.bins - 1 as degrees,
        distances.ks,
        distances.wasserstein,
        distances.wasserstein_normed,
        distances.js_divergence,
        distances.reference_rows as reference_numbers,
        distances.current_rows as current_numbers,
        measured.bins,
        measured.reference_rows,
        measured.current_rows,
        spans.reference_start,
        spans.reference_end,
        spans.window_start,
        spans.window_end
    from measured
    inner join {{ ref('drift_windows') }} as spans on measured.model = spans.model
    inner join {{ ref('model_policies') }} as policies
        on measured.model = policies.model
    left join distances
        on
            measured.model = distances.model
            and measured.feature = distances.feature
)

select
    model,
    model_version,
    feature,
    kind,
    psi,
    status,
    chi_square,
    case when degrees > 0 then {{ chi_square_p_value('chi_square', 'degrees') }} end
        as chi_square_p_value,
    ks,
    {{ ks_p_value('ks', 'reference_numbers', 'current_numbers') }} as ks_p_value,
    wasserstein,
    wasserstein_normed,
    js_divergence,
    bins,
    reference_rows,
    current_rows,
    reference_start,
    reference_end,
    window_start,
    window_end
from judged
