-- Whether each feature has moved from what the serving version was trained on, by one number.
-- The population stability index is psi = sum((current - reference) * ln(current / reference)) over
-- the bins of feature_distances, empty ones smoothed by half a row. Status follows psi_excess, what
-- chance alone adds to it taken off, where chi-square over the same bins is significant, too: many
-- bins and few rows have a high psi without any change, and with rows enough any difference is
-- significant. Numbers have also moved where their distribution functions are a tenth apart
-- (Kolmogorov-Smirnov). Significance is that of all tests of a model together. Identifiers are not
-- judged, as every value of them is new.
-- grain: feature of a model.  key: (model, feature).
-- lateness: any; windows are those of drift_windows.
with measured as (
    select
        distances.*,
        policies.min_sample,
        policies.drift_alpha,
        policies.psi_alert,
        least(distances.reference_rows, distances.current_rows)
        >= policies.min_sample as has_rows
    from {{ ref('feature_distances') }} as distances
    inner join {{ ref('model_policies') }} as policies
        on distances.model = policies.model
),

counted as (
    select
        *,
        {{ tests_of_model(
            tests_of(['chi_square_p_value', 'ks_p_value'], 'has_rows and not is_identifier'),
            'feature'
        ) }} as tests
    from measured
)

select
    model,
    model_version,
    feature,
    feature_type,
    psi,
    psi_excess,
    case
        when has_rows and is_identifier then 'identifier'
        else {{ drift_status(
            'psi_excess', is_significant('chi_square_p_value', 'tests'),
            'reference_rows', 'current_rows',
            is_apart=ks_is_apart('ks', 'ks_p_value', 'tests')
        ) }}
    end as status,
    tests,
    chi_square,
    chi_square_p_value,
    ks,
    ks_p_value,
    js_divergence,
    bins,
    reference_rows,
    current_rows,
    reference_others,
    current_others,
    reference_start,
    reference_end,
    window_start,
    window_end
from counted
