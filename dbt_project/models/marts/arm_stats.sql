-- What each arm has earned, and how much it still deserves to be tried. An arm is a predicted
-- class; a pull is a labelled prediction, which carries a reward.
-- The last 30 days behind the model's clock, by the hour of the prediction, without shadow
-- predictions.
-- grain: arm of a model.  key: (model, arm).
-- lateness: any; a late label or a revision changes the reward of its prediction.
with arms as (
    select
        panes.model,
        panes.arm,
        sum(panes.pulls)::bigint as pulls,
        sum(panes.reward) as reward,
        {{ spread(
            'sum(panes.pulls)', 'sum(panes.reward_squared)', 'sum(panes.reward)'
        ) }} as spread,
        count(case when panes.reward != panes.reward_squared then 1 end) = 0
            as is_share,
        count(case when panes.reward < panes.reward_squared then 1 end) = 0 as is_unit
    from {{ ref('model_clock') }} as clock
    inner join {{ ref('arm_panes') }} as panes
        on
            clock.model = panes.model
            and clock.event_clock - interval '720 hours' < panes.pane_start
    where panes.arm is not null and panes.pulls != 0
    group by panes.model, panes.arm
),

moments as (
    select
        *,
        {{ as_double('reward') }} as rewards,
        {{ as_double('reward') }} / nullif(pulls, 0) as mean_reward,
        {{ sample_variance('pulls', 'spread') }} as reward_variance,
        sum(pulls) over (
            partition by model
            order by arm
            rows between unbounded preceding and unbounded following
        ) as all_pulls
    from arms
)

select
    model,
    arm,
    pulls,
    pulls::double precision / nullif(all_pulls, 0)::double precision as share_of_pulls,
    mean_reward,
    reward_variance,
    case
        when is_share then {{ wilson_low('reward', 'pulls') }}
        else mean_reward - {{ z_of(0.95) }} * sqrt(reward_variance / nullif(pulls, 0))
    end as mean_reward_low,
    case
        when is_share then {{ wilson_high('reward', 'pulls') }}
        else mean_reward + {{ z_of(0.95) }} * sqrt(reward_variance / nullif(pulls, 0))
    end as mean_reward_high,
    {{ ucb1('mean_reward', 'pulls', 'all_pulls') }} as ucb1,
    case when is_unit then 1 + rewards end as thompson_alpha,
    case when is_unit then 1 + pulls - rewards end as thompson_beta
from moments
