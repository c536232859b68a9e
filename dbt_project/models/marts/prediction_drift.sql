-- Whether the output of each serving version has moved from how it began (output_distances).
-- Status follows psi_excess (psi without what chance alone adds to it) where chi-square is
-- significant, too; scores have also moved where their distribution functions are a tenth apart
-- (Kolmogorov-Smirnov). Significance is that of all tests of a model together.
-- grain: version that serves.  key: (model, model_version).
-- lateness: any; a late prediction may change the baseline.
with measured as (
    select
        distances.*,
        policies.min_sample,
        policies.drift_alpha,
        policies.psi_alert,
        policies.psi_halt,
        least(distances.reference_rows, distances.current_rows)
        >= policies.min_sample as has_rows,
        least(distances.reference_scores, distances.current_scores)
        >= policies.min_sample as has_scores
    from {{ ref('output_distances') }} as distances
    inner join {{ ref('model_policies') }} as policies
        on distances.model = policies.model
),

counted as (
    select
        *,
        {{ tests_of_model(
            tests_of(['chi_square_p_value'], 'has_rows') ~ ' + '
            ~ tests_of(['score_chi_square_p_value', 'ks_p_value'], 'has_scores'),
            'model_version'
        ) }} as tests
    from measured
),

tested as (
    select
        *,
        case
            when
                has_scores
                and {{ is_significant('score_chi_square_p_value', 'tests') }}
                then score_psi_excess
        end as sure_score_excess,
        case
            when {{ is_significant('chi_square_p_value', 'tests') }}
                then class_psi_excess
        end as sure_class_excess
    from counted
),

greatest_of_both as (
    select
        *,
        case
            when has_scores and score_psi >= coalesce(class_psi, 0) then score_psi
            else class_psi
        end as psi,
        case
            when sure_score_excess >= coalesce(sure_class_excess, 0)
                then sure_score_excess
            else sure_class_excess
        end as sure_excess,
        case
            when has_scores and score_psi_excess >= coalesce(class_psi_excess, 0)
                then score_psi_excess
            else class_psi_excess
        end as any_excess
    from tested
),

judged as (
    select
        *,
        sure_excess is not null as is_sure,
        coalesce(sure_excess, any_excess) as psi_excess
    from greatest_of_both
)

select
    -- ids
    model,
    model_version,
    -- the verdict
    case
        when
            is_sure
            and psi_excess >= psi_halt
            and has_rows then 'halt'
        else {{ drift_status(
            'psi_excess', 'is_sure', 'reference_rows', 'current_rows',
            is_apart='has_scores and ' ~ ks_is_apart('ks', 'ks_p_value', 'tests')
        ) }}
    end as status,
    psi,
    psi_excess,
    tests,
    -- scores
    score_psi,
    score_psi_excess,
    score_chi_square_p_value,
    js_divergence,
    ks,
    ks_p_value,
    wasserstein,
    reference_scores,
    current_scores,
    -- predicted classes
    class_psi,
    class_psi_excess,
    chi_square,
    chi_square_p_value,
    cramers_v,
    reference_rows,
    current_rows,
    -- times
    reference_start,
    reference_end,
    window_start,
    window_end
from judged
