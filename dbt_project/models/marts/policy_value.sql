-- What a policy would have earned a prediction, estimated from predictions that another policy
-- chose (off-policy evaluation), for the policies that always choose one arm and for what was done.
--   ips    inverse propensity scoring (Horvitz and Thompson 1952): unbiased, wide
--   snips  that, divided by the sum of the weights (Swaminathan and Joachims 2015): narrower
--   dr     doubly robust (Dudik, Langford, Li 2011): the arm's mean reward, corrected by ips
-- With w = 1 / propensity, sums over the rows that chose the arm, n rows logged and q the mean
-- reward of the arm:
--   ips = sum(w r) / n      snips = sum(w r) / sum(w)      dr = q + sum(w (r - q)) / n
-- and the variances of the means of w r and w (r - q) over all n rows, and for snips that of a
-- ratio by the delta method, sum(w^2 (r - snips)^2) / sum(w)^2.
-- The last 30 days behind the model's clock, by the hour of the prediction, without shadow
-- predictions.
-- grain: policy of a model.  key: (model, target_policy).
-- lateness: any; a late label or a revision changes the reward of its prediction.
with arms as (
    select
        panes.model,
        panes.arm,
        policies.min_sample,
        sum(panes.pulls)::bigint as pulls,
        sum(panes.reward) as reward,
        sum(panes.reward_squared) as reward_squared,
        sum(panes.logged)::bigint as matched,
        {%- for name in [
            'w', 'w_squared', 'w_reward', 'w_squared_reward', 'w_squared_reward_squared'
        ] %}
        sum(panes.{{ name }}) as {{ name }}{{ ',' if not loop.last }}
        {%- endfor %}
    from {{ ref('model_clock') }} as clock
    inner join {{ ref('model_policies') }} as policies on clock.model = policies.model
    inner join {{ ref('arm_panes') }} as panes
        on
            clock.model = panes.model
            and clock.event_clock - interval '720 hours' < panes.pane_start
    where panes.pulls != 0
    group by panes.model, panes.arm, policies.min_sample
),

sums as (
    select
        model,
        arm,
        min_sample,
        matched,
        (sum(matched) over (
            partition by model
            order by arm
            rows between unbounded preceding and unbounded following
        ))::bigint as logged,
        {{ as_double('reward') }} / nullif(pulls, 0) as expected,
        {%- for name in [
            'w', 'w_squared', 'w_reward', 'w_squared_reward', 'w_squared_reward_squared'
        ] %}
        {{ as_double(name) }} as {{ name }}{{ ',' if not loop.last }}
        {%- endfor %}
    from arms
),

weighted as (
    select
        *,
        w_reward / nullif(logged, 0) as ips,
        w_reward / nullif(w, 0) as snips,
        (w_reward - expected * w) / nullif(logged, 0) as correction,
        w_squared_reward_squared - 2 * expected * w_squared_reward
        + expected * expected * w_squared as residual
    from sums
    where arm is not null and matched > 0
),

always as (
    select
        model,
        'always ' || arm as target_policy,
        min_sample,
        logged,
        matched,
        {{ effective_sample_size('w', 'w_squared') }} as effective_rows,
        ips,
        snips,
        expected + correction as dr,
        {{ ips_variance() }} as ips_variance,
        {{ snips_variance() }} as snips_variance,
        (residual / nullif(logged, 0) - correction * correction)
        / nullif(logged - 1, 0) as dr_variance
    from weighted
),

done as (
    select
        model,
        min_sample,
        sum(pulls)::bigint as pulls,
        sum(reward) as reward,
        {{ spread('sum(pulls)', 'sum(reward_squared)', 'sum(reward)') }} as spread
    from arms
    group by model, min_sample
),

as_logged as (
    select
        model,
        min_sample,
        pulls,
        {{ as_double('reward') }} / nullif(pulls, 0) as mean_reward,
        {{ sample_variance('pulls', 'spread') }} / nullif(pulls, 0) as variance
    from done
),

valued as (
    select * from always
    union all
    select
        model,
        'as logged' as target_policy,
        min_sample,
        pulls as logged,
        pulls as matched,
        pulls::double precision as effective_rows,
        mean_reward as ips,
        mean_reward as snips,
        mean_reward as dr,
        variance as ips_variance,
        variance as snips_variance,
        variance as dr_variance
    from as_logged
),

spread as (
    select
        *
        {%- for name in ['ips', 'snips', 'dr'] %},
        case
            when {{ name }}_variance is not null
                then sqrt(greatest({{ name }}_variance, 0))
        end as {{ name }}_stderr
        {%- endfor %}
    from valued
)

select
    model,
    target_policy,
    case when effective_rows < min_sample then 'too few rows' else 'estimated' end
        as status,
    logged,
    matched,
    effective_rows
    {%- for name in ['ips', 'snips', 'dr'] %},
    {{ name }},
    {{ name }}_stderr,
    {{ name }} - {{ z_of(0.95) }} * {{ name }}_stderr as {{ name }}_low,
    {{ name }} + {{ z_of(0.95) }} * {{ name }}_stderr as {{ name }}_high
    {%- endfor %}
from spread
