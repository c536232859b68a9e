-- Whether the data still looks as it did when the serving version was trained: nulls, numbers out
-- of range, unseen categories, changed types, features that came or went, silence, errors, labels
-- that share no class with the predictions.
-- The measures are those of quality_checks.
-- grain: check of a feature, or of the model as a whole (subject '').
-- key: (model, check_name, subject).
-- lateness: any; late predictions change the window that they belong to.
with limited as (
    select
        checks.*,
        policies.min_sample,
        case
            when checks.check_name = 'volume_gap'
                then extract(epoch from policies.volume_gap)::double precision
            when checks.check_name = 'error_rate' then policies.max_error_rate
            when checks.check_name in ('new_feature', 'missing_feature') then 0
            when not checks.has_reference then 1
            else policies.quality_tolerance
        end as threshold
    from {{ ref('quality_checks') }} as checks
    inner join {{ ref('model_policies') }} as policies on checks.model = policies.model
),

judged as (
    select
        *,
        case
            when not has_reference then current_value >= threshold
            when check_name = 'error_rate' then current_value > threshold
            when check_name = 'new_feature' then reference_value = 0
            when check_name = 'missing_feature' then current_value = 0
            else
                current_value > reference_value
                and current_value - reference_value >= threshold
        end as is_bad,
        case
            when check_name = 'volume_gap' then false
            when not has_reference or check_name = 'error_rate'
                then current_rows < min_sample
            else least(reference_rows, current_rows) < min_sample
        end as is_small
    from limited
)

select
    -- ids
    model,
    check_name,
    subject,
    -- the verdict
    case
        when is_small or is_bad is null then 'too few rows'
        when is_bad then 'alert'
        else 'ok'
    end as status,
    reference_value,
    current_value,
    threshold,
    reference_rows,
    current_rows,
    -- times
    reference_start,
    reference_end,
    window_start,
    window_end
from judged
