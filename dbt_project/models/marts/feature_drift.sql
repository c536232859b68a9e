-- How far each feature has moved from what the serving version was trained on: what feature_psi
-- says, and for numbers how far they went (Wasserstein).
-- grain: feature of a model.  key: (model, feature).
-- lateness: any; windows are those of drift_windows.
with spans as (
    select * from {{ ref('drift_windows') }}
),

panes as (
    {{ compared_features('spans') }}
),

{{ opened_numbers('buckets', 'panes', ['model', 'feature']) }},

histograms as (
    select
        model,
        feature,
        bucket as bin_order,
        value,
        reference,
        current
    from buckets
),

{{ wasserstein_distances('distances', 'histograms', ['model', 'feature']) }},

-- Else they would be measured again for every feature that they are joined to.
apart {{ as_materialized() }} (
    select * from distances
),

judged as (
    select
        measured.*,
        apart.wasserstein,
        apart.wasserstein_normed
    from {{ ref('feature_psi') }} as measured
    left join apart
        on measured.model = apart.model and measured.feature = apart.feature
)

select
    model,
    model_version,
    feature,
    feature_type,
    psi,
    psi_excess,
    status,
    tests,
    chi_square,
    chi_square_p_value,
    ks,
    ks_p_value,
    wasserstein,
    wasserstein_normed,
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
from judged
