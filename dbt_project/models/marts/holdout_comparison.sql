-- What a model is worth: the rewards of its predictions beside those of the holdout, which it left
-- alone. Both are compared within each day, and are as uncertain as the users that they are for.
-- The last 30 days behind the model's clock, by the hour of the prediction, without shadow
-- predictions.
-- grain: model.  key: model.
-- lateness: any; a late label or a revision counts for the prediction that it is about.
with prediction_sums as (
    select
        panes.model,
        sum(case when panes.variant = 'holdout' then 0 else panes.inferences end)
        ::bigint as predictions,
        sum(case when panes.variant = 'holdout' then panes.inferences else 0 end)
        ::bigint as holdout_predictions
    from {{ ref('model_clock') }} as clock
    inner join {{ ref('request_panes') }} as panes
        on
            clock.model = panes.model
            and clock.event_clock - interval '720 hours' < panes.pane_start
    where panes.grain = '1 hour' and panes.variant != 'shadow'
    group by panes.model
),

label_rows as (
    select
        panes.model,
        panes.variant = 'holdout' as is_base,
        policies.canary_alpha as alpha,
        {{ pane_start('1 day', 'panes.pane_start') }} as stratum,
        panes.pulls as examples,
        panes.reward,
        panes.reward_squared
    from {{ ref('model_clock') }} as clock
    inner join {{ ref('model_policies') }} as policies on clock.model = policies.model
    inner join {{ ref('arm_panes') }} as panes
        on
            clock.model = panes.model
            and clock.event_clock - interval '720 hours' < panes.pane_start
    where panes.pulls != 0
),

unit_rows as (
    select
        panes.model,
        panes.variant = 'holdout' as is_base,
        panes.pane_start as stratum,
        panes.unit_group,
        panes.labels,
        panes.known,
        panes.reward,
        panes.reward_squared
    from {{ ref('model_clock') }} as clock
    inner join {{ ref('unit_panes') }} as panes
        on
            clock.model = panes.model
            and clock.event_clock - interval '744 hours' < panes.pane_start
),

{{ compared_rewards(
    'compared', 'label_rows', ['model'], 'holdout', 'unit_rows'
) }}

select
    prediction_sums.model,
    case
        when prediction_sums.holdout_predictions = 0 then 'no holdout'
        when least(
            coalesce(compared.labels, 0), coalesce(compared.holdout_labels, 0)
        ) < policies.min_sample then 'too few labels'
        when compared.unit_groups < {{ min_unit_groups() }} then 'too few users'
        when compared.always_valid_p_value < policies.canary_alpha
            then case when compared.difference > 0 then 'better' else 'worse' end
        else 'even'
    end as status,
    -- predictions
    prediction_sums.predictions,
    prediction_sums.holdout_predictions,
    -- rewards
    coalesce(compared.labels, 0) as labels,
    coalesce(compared.holdout_labels, 0) as holdout_labels,
    compared.measure,
    compared.mean_reward,
    compared.mean_reward_low,
    compared.mean_reward_high,
    compared.holdout_mean_reward,
    compared.holdout_mean_reward_low,
    compared.holdout_mean_reward_high,
    compared.unit_groups,
    compared.design_effect,
    compared.difference,
    compared.difference_low,
    compared.difference_high,
    compared.z,
    compared.p_value,
    compared.always_valid_p_value,
    compared.always_valid_low,
    compared.always_valid_high
from prediction_sums
inner join {{ ref('model_policies') }} as policies
    on prediction_sums.model = policies.model
left join compared on prediction_sums.model = compared.model
