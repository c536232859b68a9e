-- What each arm has earned, and how much it still deserves to be tried. An arm is a predicted
-- class, or whatever was chosen with a propensity; a pull is a labelled prediction, which carries a
-- reward.
-- Where every pull of a model has a propensity, pulls are weighted by w = 1 / propensity: an arm
-- that is tried more often when all arms earn more is not better for it. The mean is
-- sum(w r) / sum(w) (Hajek 1971), its variance sum(w^2 (r - mean)^2) / sum(w)^2, and the pulls are
-- worth sum(w)^2 / sum(w^2) equally weighted ones (Kish 1965).
-- The last 30 days behind the model's clock, by the hour of the prediction, without shadow
-- predictions.
-- grain: arm of a model.  key: (model, arm).
-- lateness: any; a late label or a revision changes the reward of its prediction.
{%- set weights = [
    'w', 'w_squared', 'w_reward', 'w_squared_reward', 'w_squared_reward_squared'
] %}
with arms as (
    select
        panes.model,
        panes.arm,
        sum(panes.pulls)::bigint as pulls,
        sum(panes.logged)::bigint as logged,
        sum(panes.reward) as reward,
        {{ spread(
            'sum(panes.pulls)', 'sum(panes.reward_squared)', 'sum(panes.reward)'
        ) }} as spread,
        count(case when panes.reward != panes.reward_squared then 1 end) = 0
            as is_share,
        count(case when panes.reward < panes.reward_squared then 1 end) = 0 as is_unit
        {%- for name in weights %},
        sum(panes.{{ name }}) as {{ name }}
        {%- endfor %}
    from {{ ref('model_clock') }} as clock
    inner join {{ ref('arm_panes') }} as panes
        on
            clock.model = panes.model
            and clock.event_clock - interval '720 hours' < panes.pane_start
    where panes.pulls != 0
    group by panes.model, panes.arm
),

totals as (
    select
        model,
        arm,
        pulls,
        is_share,
        is_unit,
        {{ as_double('reward') }} / nullif(pulls, 0) as plain_mean,
        {{ sample_variance('pulls', 'spread') }} as reward_variance
        {%- for name in weights %},
        {{ as_double(name) }} as {{ name }}
        {%- endfor %}
        {%- for name in ['pulls', 'logged'] %},
        sum({{ name }}) over (
            partition by model
            order by arm
            rows between unbounded preceding and unbounded following
        ) as all_{{ name }}
        {%- endfor %}
    from arms
),

means as (
    select
        *,
        case when all_logged = all_pulls then 'inverse propensity' else 'none' end
            as weighting,
        case
            when all_logged = all_pulls then w_reward / nullif(w, 0)
            else plain_mean
        end as mean_reward,
        case
            when all_logged = all_pulls
                then least({{ effective_sample_size('w', 'w_squared') }}, pulls)
            else pulls
        end as effective_pulls
    from totals
),

moments as (
    select
        *,
        least(greatest(mean_reward * effective_pulls, 0), effective_pulls) as rewards,
        case
            when pulls < 2 then null
            when weighting = 'none' then sqrt(reward_variance / nullif(pulls, 0))
            else sqrt(greatest(
                w_squared_reward_squared - 2 * mean_reward * w_squared_reward
                + mean_reward * mean_reward * w_squared, 0
            )) / nullif(w, 0)
        end as stderr
    from means
    {{ fence() }}
)

select
    model,
    arm,
    pulls,
    pulls::double precision / nullif(all_pulls, 0)::double precision as share_of_pulls,
    weighting,
    effective_pulls,
    mean_reward,
    reward_variance,
    case
        when is_share then {{ wilson_low('rewards', 'effective_pulls') }}
        else mean_reward - {{ z_of(0.95) }} * stderr
    end as mean_reward_low,
    case
        when is_share then {{ wilson_high('rewards', 'effective_pulls') }}
        else mean_reward + {{ z_of(0.95) }} * stderr
    end as mean_reward_high,
    {{ ucb1('mean_reward', 'effective_pulls', 'all_pulls') }} as ucb1,
    case when is_unit then 1 + rewards end as thompson_alpha,
    case when is_unit then 1 + effective_pulls - rewards end as thompson_beta
from moments
