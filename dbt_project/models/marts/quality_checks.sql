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
        traffic.current_predictions as current_all
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
        {%- endfor %}
    from features
),

checks as (
    select
        model,
        check_name,
        subject,
        reference::double precision / nullif(reference_rows, 0) as reference_value,
        current::double precision / nullif(current_rows, 0) as current_value,
        reference_rows,
        current_rows,
        true as has_reference,
        null::timestamptz as since
    from feature_checks
    where is_made
    union all
    select
        model,
        'error_rate' as check_name,
        '' as subject,
        reference_errors::double precision / nullif(reference_predictions, 0)
            as reference_value,
        current_errors::double precision / nullif(current_predictions, 0)
            as current_value,
        reference_predictions as reference_rows,
        current_predictions as current_rows,
        true as has_reference,
        null::timestamptz as since
    from traffic
    where current_predictions is not null
    union all
    select
        model,
        'volume_gap' as check_name,
        '' as subject,
        null::double precision as reference_value,
        longest_silence as current_value,
        null::bigint as reference_rows,
        recent_predictions as current_rows,
        false as has_reference,
        recent_start as since
    from traffic
    {%- for check_name, column in [
        ('label_never_predicted', 'never_predicted'),
        ('prediction_never_label', 'never_labels')
    ] %}
    union all
    select
        model,
        '{{ check_name }}' as check_name,
        '' as subject,
        null::double precision as reference_value,
        {{ column }}::double precision / nullif(labels, 0) as current_value,
        null::bigint as reference_rows,
        labels as current_rows,
        false as has_reference,
        window_start as since
    from {{ ref('class_overlap') }}
    {%- endfor %}
)

select
    checks.model,
    checks.check_name,
    checks.subject,
    checks.has_reference,
    checks.reference_value,
    checks.current_value,
    checks.reference_rows,
    checks.current_rows,
    case when checks.has_reference then traffic.reference_start end as reference_start,
    case when checks.has_reference then traffic.reference_end end as reference_end,
    coalesce(checks.since, traffic.window_start) as window_start,
    traffic.window_end
from checks
inner join traffic on checks.model = traffic.model
