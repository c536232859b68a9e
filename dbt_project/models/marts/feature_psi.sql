-- How far each feature has moved from what the serving version was trained on, in one number.
-- The population stability index, psi = sum((current - reference) * ln(current / reference)), is
-- over the bins of feature_reference, empty ones smoothed by half a row. Status follows the size
-- of the effect: with rows enough, any difference is significant.
-- grain: feature of a model.  key: (model, feature).
-- lateness: any; windows are those of drift_windows.
with spans as (
    select
        windows.*,
        policies.min_sample,
        policies.psi_alert
    from {{ ref('drift_windows') }} as windows
    inner join {{ ref('model_policies') }} as policies on windows.model = policies.model
),

panes as (
    {{ compared_features('spans') }}
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
)

select
    measured.model,
    spans.model_version,
    measured.feature,
    measured.kind,
    measured.psi,
    case
        when least(measured.reference_rows, measured.current_rows) < spans.min_sample
            then 'too few rows'
        when measured.psi >= spans.psi_alert then 'drifted'
        when measured.psi >= 0.1 then 'moving'
        else 'stable'
    end as status,
    case when measured.current_rows > 0 and measured.reference_rows > 0
        then measured.chi_square end as chi_square,
    measured.bins,
    measured.reference_rows,
    measured.current_rows,
    spans.reference_start,
    spans.reference_end,
    spans.window_start,
    spans.window_end
from measured
inner join spans on measured.model = spans.model
