-- How far each feature has moved from what the serving version was trained on, in one number.
-- The population stability index, psi = sum((current - reference) * ln(current / reference)), is
-- over the bins of feature_reference and over what the reference never held, empty ones smoothed by
-- half a row. Status follows psi_excess, what chance alone adds to it taken off, where chi-square
-- over the same bins is significant, too: many bins and few rows have a high psi without any
-- change, and with rows enough any difference is significant.
-- grain: feature of a model.  key: (model, feature).
-- lateness: any; windows are those of drift_windows.
with spans as (
    select
        windows.*,
        policies.min_sample,
        policies.drift_alpha,
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

buckets as (
    select
        model,
        feature,
        bin as bucket,
        coalesce(sum(predictions) filter (where is_reference), 0) as reference,
        coalesce(sum(predictions) filter (where not is_reference), 0) as current
    from numbers
    group by 1, 2, 3
),

{{ binned_numbers('number_bins', 'buckets', ['model', 'feature']) }},

named as (
    select
        model,
        feature,
        true as is_number,
        bin,
        reference,
        current
    from number_bins
    union all
    select
        model,
        feature,
        false as is_number,
        case when category is null then type else 'category ' || category end as bin,
        coalesce(sum(predictions) filter (where is_reference), 0) as reference,
        coalesce(sum(predictions) filter (where not is_reference), 0) as current
    from panes
    where block is null
    group by 1, 2, 4
),

binned as (
    select
        model,
        feature,
        bin,
        reference,
        current,
        case
            when max(case when is_number then 1 else 0 end) over (
                partition by model, feature
                order by bin
                rows between unbounded preceding and unbounded following
            ) = 1 then 'numeric' else 'categorical'
        end as feature_type
    from named
),

{{ category_distances(
    'distances', 'binned', ['model', 'feature', 'feature_type'], 'bin'
) }}

select
    measured.model,
    spans.model_version,
    measured.feature,
    measured.feature_type,
    measured.psi,
    measured.psi_excess,
    {{ drift_status(
        'measured.psi_excess', 'measured.p_value < spans.drift_alpha',
        'measured.reference_rows', 'measured.current_rows', 'spans.'
    ) }} as status,
    measured.chi_square,
    measured.p_value as chi_square_p_value,
    measured.bins,
    measured.reference_rows,
    measured.current_rows,
    spans.reference_start,
    spans.reference_end,
    spans.window_start,
    spans.window_end
from distances as measured
inner join spans on measured.model = spans.model
