-- How far the values of each feature are from those that the serving version was trained on.
-- feature_psi judges it.
-- Both sides are compared over the bins of feature_reference and over what the reference never held
-- (psi, chi-square, Jensen-Shannon), numbers also by their whole histogram (Kolmogorov-Smirnov).
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

{{ opened_numbers('buckets', 'panes', ['model', 'feature']) }},

{{ binned_numbers('number_bins', 'buckets', ['model', 'feature']) }},

named as (
    select
        model,
        feature,
        'number' as kind,
        bin,
        reference,
        current,
        gap
    from number_bins
    union all
    select
        model,
        feature,
        case when category is null then type else 'category' end as kind,
        case when category is null then type else 'category ' || category end as bin,
        coalesce(sum(predictions) filter (where is_reference), 0) as reference,
        coalesce(sum(predictions) filter (where not is_reference), 0) as current,
        null::double precision as gap
    from panes
    where block is null
    group by 1, 2, 3, 4
),

binned as (
    select
        model,
        feature,
        bin,
        reference,
        current,
        max(case when kind = 'number' then 1 else 0 end) over of_feature as is_number,
        max(gap) over of_feature as ks,
        {%- for side in ['reference', 'current'] %}
        sum(case when kind = 'number' then {{ side }} else 0 end) over of_feature
            as {{ side }}_numbers,
        sum(case when kind = 'category' then {{ side }} else 0 end) over of_feature
            as {{ side }}_categories,
        sum(case when kind = 'category' and {{ side }} > 0 then 1 else 0 end)
            over of_feature as {{ side }}_names{{ ',' if not loop.last }}
        {%- endfor %}
    from named
    window of_feature as (
        partition by model, feature
        order by bin
        rows between unbounded preceding and unbounded following
    )
),

{{ category_distances('distances', 'binned', [
    'model', 'feature', 'is_number', 'ks', 'reference_numbers', 'current_numbers',
    'reference_categories', 'current_categories', 'reference_names', 'current_names'
], 'bin') }}

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
    distances.is_number = 0
    and {{ are_identifiers('reference_names', 'reference_categories') }}
    and {{ are_identifiers('current_names', 'current_categories') }} as is_identifier,
    distances.bins,
    distances.reference_rows,
    distances.current_rows,
    -- times
    spans.reference_start,
    spans.reference_end,
    spans.window_start,
    spans.window_end
from distances
inner join spans on distances.model = spans.model
