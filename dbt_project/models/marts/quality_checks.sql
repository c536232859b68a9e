-- What is checked of the data: a measure in the reference and now. data_quality judges it.
-- Reference and current window are those of drift_windows, but for volume_gap (traffic_quality) and
-- the classes (class_overlap).
-- grain: check of a feature, or of the model as a whole (subject '').
-- key: (model, check_name, subject).
-- lateness: any; late predictions change the window that they belong to.
{#-
  check_name, whether it is made, and for the reference and the current window: rows that count,
  of how many. Of the next categories as many are new as came once in the reference: Good (1953).
-#}
{%- set checks = [
    ('null_rate', 'true',
     'reference_all - reference_values', 'reference_all',
     'current_all - current_values', 'current_all'),
    ('new_feature', 'current_predictions > 0',
     'reference_predictions', 'reference_all', 'current_predictions', 'current_all'),
    ('missing_feature', 'reference_predictions > 0',
     'reference_predictions', 'reference_all', 'current_predictions', 'current_all'),
    ('type_change', 'reference_main_type is not null',
     'reference_values - reference_main_type', 'reference_values',
     'current_values - current_main_type', 'current_values'),
    ('out_of_range', 'reference_numbers is not null',
     '0::bigint', 'reference_numbers', 'current_outside', 'current_numbers'),
    ('unseen_category', 'reference_categories is not null',
     'reference_once', 'reference_categories', 'current_unseen', 'current_categories')
] %}
with traffic as (
    select * from {{ ref('traffic_quality') }}
),

features as (
    select
        features.*,
        traffic.reference_predictions as reference_all,
        traffic.current_predictions as current_all,
        traffic.reference_start,
        traffic.reference_end,
        traffic.window_start,
        traffic.window_end
    from {{ ref('feature_quality') }} as features
    inner join traffic on features.model = traffic.model
),

feature_checks as (
    select
        model,
        feature as subject,
        unnest(array[
            {%- for check in checks %}
            '{{ check[0] }}'{{ ',' if not loop.last }}
            {%- endfor %}
        ]) as check_name
        {%- for name, place in [
            ('is_made', 1), ('reference', 2), ('reference_rows', 3), ('current', 4),
            ('current_rows', 5)
        ] %},
        unnest(array[
            {%- for check in checks %}
            {{ check[place] }}{{ ',' if not loop.last }}
            {%- endfor %}
        ]) as {{ name }}
        {%- endfor %},
        reference_start,
        reference_end,
        window_start,
        window_end
    from features
),

-- Arrays, so that traffic_quality is not computed for each check.
model_checks as (
    select
        traffic.model,
        unnest(array[
            'error_rate', 'volume_gap',
            'label_never_predicted', 'prediction_never_label'
        ]) as check_name,
        unnest(array[
            traffic.current_predictions is not null, true,
            overlap.labels is not null, overlap.labels is not null
        ]) as is_made,
        unnest(array[true, false, false, false]) as has_reference,
        traffic.reference_errors::double precision
        / nullif(traffic.reference_predictions, 0) as reference_value,
        unnest(array[
            traffic.current_errors::double precision
            / nullif(traffic.current_predictions, 0),
            traffic.longest_silence,
            overlap.never_predicted::double precision / nullif(overlap.labels, 0),
            overlap.never_labels::double precision / nullif(overlap.labels, 0)
        ]) as current_value,
        traffic.reference_predictions as reference_rows,
        unnest(array[
            traffic.current_predictions, traffic.recent_predictions,
            overlap.labels, overlap.labels
        ]) as current_rows,
        traffic.reference_start,
        traffic.reference_end,
        unnest(array[
            traffic.window_start, traffic.recent_start,
            overlap.window_start, overlap.window_start
        ]) as window_start,
        traffic.window_end
    from traffic
    left join {{ ref('class_overlap') }} as overlap on traffic.model = overlap.model
)

select
    model,
    check_name,
    subject,
    true as has_reference,
    reference::double precision / nullif(reference_rows, 0) as reference_value,
    current::double precision / nullif(current_rows, 0) as current_value,
    reference_rows,
    current_rows,
    reference_start,
    reference_end,
    window_start,
    window_end
from feature_checks
where is_made
union all
select
    model,
    check_name,
    '' as subject,
    has_reference,
    case when has_reference then reference_value end as reference_value,
    current_value,
    case when has_reference then reference_rows end as reference_rows,
    current_rows,
    case when has_reference then reference_start end as reference_start,
    case when has_reference then reference_end end as reference_end,
    window_start,
    window_end
from model_checks
where is_made
