-- Whether the texts of each field have moved from what the serving version was trained on
-- (text_distances): input, output, and features that are texts.
-- Status follows psi_excess (psi without what chance alone adds to it) of lengths or words where a
-- test of the same is significant, too; lengths have also moved where their distribution functions
-- are a tenth apart (Kolmogorov-Smirnov). Significance is that of all tests of a model together.
-- grain: field of a model.  key: (model, field).
-- lateness: any; windows are those of drift_windows, in whole hours.
with measured as (
    select
        distances.*,
        policies.min_sample,
        policies.drift_alpha,
        policies.psi_alert,
        least(distances.reference_texts, distances.current_texts)
        >= policies.min_sample as has_rows
    from {{ ref('text_distances') }} as distances
    inner join {{ ref('model_policies') }} as policies
        on distances.model = policies.model
),

counted as (
    select
        *,
        {{ tests_of_model(tests_of([
            'length_chi_square_p_value', 'length_ks_p_value', 'vocabulary_p_value'
        ], 'has_rows'), 'field') }} as tests
    from measured
),

tested as (
    select
        *,
        case
            when {{ is_significant('length_chi_square_p_value', 'tests') }}
                then length_psi_excess
        end as sure_length_excess,
        case
            when {{ is_significant('vocabulary_p_value', 'tests') }}
                then vocabulary_psi_excess
        end as sure_vocabulary_excess
    from counted
),

judged as (
    select
        *,
        sure_length_excess is not null or sure_vocabulary_excess is not null as is_sure,
        case
            when sure_vocabulary_excess >= coalesce(sure_length_excess, 0)
                then sure_vocabulary_excess
            when sure_length_excess is not null then sure_length_excess
            when vocabulary_psi_excess >= coalesce(length_psi_excess, 0)
                then vocabulary_psi_excess
            else length_psi_excess
        end as psi_excess
    from tested
)

select
    -- ids
    model,
    model_version,
    field,
    -- the verdict
    {{ drift_status(
        'psi_excess', 'is_sure', 'reference_texts', 'current_texts',
        is_apart=ks_is_apart('length_ks', 'length_ks_p_value', 'tests')
    ) }} as status,
    psi_excess,
    tests,
    -- lengths
    length_psi,
    length_psi_excess,
    length_chi_square_p_value,
    length_ks,
    length_ks_p_value,
    -- words
    vocabulary_psi,
    vocabulary_psi_excess,
    vocabulary_p_value,
    cosine_distance,
    -- what was compared
    reference_texts,
    current_texts,
    -- times
    reference_start,
    reference_end,
    window_start,
    window_end
from judged
