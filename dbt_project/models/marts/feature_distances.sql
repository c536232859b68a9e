-- How far the values of each feature are from those that the serving version was trained on.
-- feature_psi judges it.
-- Both sides are compared over the bins of feature_reference and over what the reference never held
-- (psi, chi-square, Jensen-Shannon), numbers also by their whole histogram (Kolmogorov-Smirnov).
-- Strings beyond the 256 that a pane keeps apart are one bin.
-- What Headrace itself counts about segments, users and items is left out: it grows without any
-- change.
-- grain: feature of a model.  key: (model, feature).
-- lateness: any; windows are those of drift_windows.
with spans as (
    select * from {{ ref('drift_windows') }}
),

compared as (
    {{ compared_features('spans') }}
),

panes as (
    select * from compared
    where not {{ is_own_feature('feature') }}
),

{{ distances_of_features('distances', 'panes', ['model', 'feature']) }}

select
    -- ids
    distances.model,
    spans.model_version,
    distances.feature,
    case
        when distances.is_number = 1 then 'numeric' else 'categorical'
    end as feature_type,
    -- over bins
    distances.psi,
    distances.psi_excess,
    distances.js_divergence,
    distances.chi_square,
    distances.p_value as chi_square_p_value,
    -- over the histogram of numbers
    distances.ks,
    {{ ks_p_value('ks', 'reference_numbers', 'current_numbers') }} as ks_p_value,
    -- what was compared
    distances.is_identifier,
    distances.bins,
    distances.reference_rows,
    distances.current_rows,
    distances.reference_others::bigint as reference_others,
    distances.current_others::bigint as current_others,
    -- times
    spans.reference_start,
    spans.reference_end,
    spans.window_start,
    spans.window_end
from distances
inner join spans on distances.model = spans.model
