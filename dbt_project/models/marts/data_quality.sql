-- Whether the data still looks as it did when the serving version was trained: nulls, numbers out
-- of range, unseen categories, changed types, features that came or went, silence, errors, labels
-- that share no class with the predictions.
-- Reference and current window are those of drift_windows, but for volume_gap (traffic_quality) and
-- the classes (class_overlap).
-- grain: check of a feature, or of the model as a whole (subject '').
-- key: (model, check_name, subject).
-- lateness: any; late predictions change the window that they belong to.
{#-
  check_name, whether it is made, and for the reference and the current window: rows that count,
  of how many. Of the next categories as many are new as came once in the reference: Good (1953).
-#}
{%- set without_reference = "'volume_gap', 'label_never_predicted', 'prediction_never_label'" %}
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
        window_start as since
    from {{ ref('class_overlap') }}
    {%- endfor %}
),

limited as (
    select
        checks.*,
        policies.min_sample,
        case
            when checks.check_name = 'volume_gap'
                then extract(epoch from policies.volume_gap)::double precision
            when checks.check_name = 'error_rate' then policies.max_error_rate
            when checks.check_name in ('new_feature', 'missing_feature') then 0
            when checks.check_name in ({{ without_reference }}) then 1
            else policies.quality_tolerance
        end as threshold
    from checks
    inner join {{ ref('model_policies') }} as policies on checks.model = policies.model
),

judged as (
    select
        *,
        case
            when check_name in ({{ without_reference }}) then current_value >= threshold
            when check_name = 'error_rate' then current_value > threshold
            when check_name = 'new_feature' then reference_value = 0
            when check_name = 'missing_feature' then current_value = 0
            else
                current_value > reference_value
                and current_value - reference_value >= threshold
        end as is_bad,
        case
            when check_name = 'volume_gap' then false
            when check_name in ('error_rate', {{ without_reference }})
                then current_rows < min_sample
            else least(reference_rows, current_rows) < min_sample
        end as is_small
    from limited
)

select
    -- ids
    judged.model,
    judged.check_name,
    judged.subject,
    -- the verdict
    case
        when judged.is_small or judged.is_bad is null then 'too few rows'
        when judged.is_bad then 'alert'
        else 'ok'
    end as status,
    judged.reference_value,
    judged.current_value,
    judged.threshold,
    judged.reference_rows,
    judged.current_rows,
    -- times
    case when judged.check_name not in ({{ without_reference }})
        then traffic.reference_start
    end as reference_start,
    case when judged.check_name not in ({{ without_reference }})
        then traffic.reference_end
    end as reference_end,
    coalesce(judged.since, traffic.window_start) as window_start,
    traffic.window_end
from judged
inner join traffic on judged.model = traffic.model
