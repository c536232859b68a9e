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

{{ opened_numbers('buckets', 'panes', ['model', 'feature']) }},

{{ category_thresholds(
    'thresholds', 'panes', ['model', 'feature', 'type'], ['is_reference', 'pane_start'],
    'category'
) }}

{{ binned_numbers('number_bins', 'buckets', ['model', 'feature']) }},

-- Where the later half of a reference's categories begins.
halves as (
    select
        model,
        feature,
        pane_start,
        2 * sum(predictions) over (
            partition by model, feature
            order by pane_start
            rows between unbounded preceding and current row
        ) - predictions > sum(predictions) over (
            partition by model, feature
            order by pane_start
            rows between unbounded preceding and unbounded following
        ) as is_late
    from (
        select
            model,
            feature,
            pane_start,
            sum(predictions) as predictions
        from panes
        where is_reference and category is not null
        group by 1, 2, 3
    ) as reference_panes
),

texts as (
    select
        panes.model,
        panes.feature,
        panes.type,
        {{ compared_category('panes.category', 'thresholds') }} as category,
        panes.is_reference,
        panes.is_reference and coalesce(halves.is_late, false) as is_late,
        panes.predictions
    from panes
    {{ join_thresholds('thresholds', 'panes', ['model', 'feature', 'type']) }}
    left join halves
        on
            panes.model = halves.model
            and panes.feature = halves.feature
            and panes.pane_start = halves.pane_start
    where panes.block is null
),

named as (
    select
        model,
        feature,
        'number' as kind,
        bin,
        reference,
        current,
        0 as late,
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
        coalesce(sum(predictions) filter (where is_late), 0) as late,
        null::double precision as gap
    from texts
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
            over of_feature as {{ side }}_names,
        sum(case when kind = 'string' then {{ side }} else 0 end) over of_feature
            as {{ side }}_others,
        {%- endfor %}
        sum(late) over of_feature as late,
        sum(case when late = reference then late else 0 end) over of_feature
            as late_new,
        sum(case when kind = 'category' and reference - late = 1 then 1 else 0 end)
            over of_feature as early_once
    from named
    window of_feature as (
        partition by model, feature
        order by bin
        rows between unbounded preceding and unbounded following
    )
),

judged as (
    select
        *,
        is_number = 0 and (
            (
                {{ are_identifiers('reference_names', 'reference_categories') }}
                and {{ are_identifiers('current_names', 'current_categories') }}
            )
            or (
                {{ is_few_rows_each('reference_names', 'reference_categories') }}
                and {{ is_few_rows_each('current_names', 'current_categories') }}
                and {{ are_renewed(
                    'late', 'late_new', '(reference_categories - late)', 'early_once'
                ) }}
            )
        ) as is_identifier
    from binned
),

{{ category_distances('distances', 'judged', [
    'model', 'feature', 'is_number', 'ks', 'reference_numbers', 'current_numbers',
    'reference_others', 'current_others', 'is_identifier'
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
