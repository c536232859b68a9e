-- What may be said of each experiment now, from ab_assignments and ab_metrics: at any look, and by
-- unit. The first of these that holds is the verdict. A split that is not the planned one comes
-- first, because its arms cannot be compared.
-- grain: experiment of a model.  key: (model, experiment).
-- lateness: any; a late label or a revision counts for the prediction that it is about.
with measured as (
    select
        model,
        experiment,
        {%- for column in [
            'trials', 'control_trials', 'value', 'control_value', 'measure',
            'unit_groups', 'design_effect', 'difference', 'always_valid_low',
            'always_valid_high', 'always_valid_p_value'
        ] %}
        max(case when metric = 'reward' then {{ column }} end) as {{ column }},
        {%- endfor %}
        max(case when metric = 'reward' and is_violated then 1 end) = 1 as is_violated,
        nullif(concat_ws(
            ', '
            {%- for metric in ['errors', 'slow', 'reports'] %},
            max(case when metric = '{{ metric }}' and is_violated then metric end)
            {%- endfor %}
        ), '') as violated
    from {{ ref('ab_metrics') }}
    group by model, experiment
),

splits as (
    select
        model,
        experiment,
        max(began_at) as began_at,
        max(case when arm = 'treatment' then exposures end) as exposures,
        max(case when arm = 'control' then exposures end) as control_exposures,
        max(share_p_value) as share_p_value,
        max(case when split = 'sample ratio' then 1 else 0 end) = 1 as is_unplanned
    from {{ ref('ab_assignments') }}
    group by model, experiment
),

facts as (
    select
        measured.*,
        splits.began_at,
        splits.exposures,
        splits.control_exposures,
        splits.share_p_value,
        splits.is_unplanned,
        abs(measured.control_value) as base,
        policies.canary_alpha,
        policies.max_canary_loss,
        least(measured.trials, measured.control_trials) >= policies.min_sample
            as has_sample
    from measured
    inner join splits
        on
            measured.model = splits.model
            and measured.experiment = splits.experiment
    inner join {{ ref('model_policies') }} as policies
        on measured.model = policies.model
)

select
    -- ids
    model,
    experiment,
    began_at,
    -- verdict
    case
        when is_unplanned then 'sample ratio'
        when is_violated then 'worse'
        when violated is not null then 'guardrail'
        when
            always_valid_p_value < canary_alpha
            and difference > 0
            and (measure = 'share' or has_sample)
            then 'better'
        when not has_sample then 'too few labels'
        when unit_groups < {{ min_unit_groups() }} then 'too few users'
        when measure = 'share' and value + control_value = 0 then 'no reward'
        when always_valid_low > -max_canary_loss * base then 'no loss'
        else 'undecided'
    end as verdict,
    violated as guardrails_violated,
    share_p_value,
    -- numbers
    exposures,
    control_exposures,
    trials as labels,
    control_trials as control_labels,
    measure,
    value as mean_reward,
    control_value as control_mean_reward,
    unit_groups,
    design_effect,
    difference,
    always_valid_low,
    always_valid_high,
    always_valid_p_value,
    difference / nullif(base, 0) as lift,
    always_valid_low / nullif(base, 0) as lift_low,
    always_valid_high / nullif(base, 0) as lift_high
from facts
