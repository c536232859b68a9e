-- What a policy that was not in use would have earned a prediction, estimated from the predictions
-- of the one that was (off-policy evaluation), of which it said with which probability it would
-- have made them: target_propensity.
--   ips    inverse propensity scoring (Horvitz and Thompson 1952): unbiased, wide
--   snips  that, divided by the sum of the weights (Swaminathan and Joachims 2015): narrower
-- With w = target_propensity / propensity over n rows: ips = sum(w r) / n, with the variance of a
-- mean; snips = sum(w r) / sum(w), with that of a ratio by the delta method,
-- sum(w^2 (r - snips)^2) / sum(w)^2. The mean of w is 1, but for chance, where the policy in use
-- may make every prediction that the other one may.
-- The last 30 days behind the model's clock, by the hour of the prediction, without shadow
-- predictions; the 100 largest segments of a version.
-- grain: model, its versions, and their segments and positions.
-- key: (model, breakdown, model_version, segment, position).
-- lateness: any; a late label or a revision changes the reward of its prediction.
{%- set sums = [
    'reward', 'reward_squared', 'w', 'w_squared', 'w_reward', 'w_squared_reward',
    'w_squared_reward_squared'
] %}
{%- set types = {'model_version': 'text', 'segment': 'text', 'position': 'integer'} %}
{%- set breakdowns = [
    ('model', []), ('version', ['model_version']),
    ('segment', ['model_version', 'segment']),
    ('position', ['model_version', 'position'])
] %}
with hours as (
    select panes.*
    from {{ ref('model_clock') }} as clock
    inner join {{ ref('target_panes') }} as panes
        on
            clock.model = panes.model
            and clock.event_clock - interval '720 hours' < panes.pane_start
    where panes.logged != 0
),

parts as (
    {%- for breakdown, dimensions in breakdowns %}
    {%- if not loop.first %}
    union all
    {%- endif %}
    select
        hours.model,
        '{{ breakdown }}' as breakdown,
        sum(hours.logged)::bigint as logged
        {%- for name in sums %},
        sum(hours.{{ name }}) as {{ name }}
        {%- endfor %}
        {%- for dimension, type in types.items() %}
        {%- if dimension in dimensions %},
        hours.{{ dimension }}
        {%- else %},
        null::{{ type }} as {{ dimension }}
        {%- endif %}
        {%- endfor %}
    from hours
    group by
        hours.model
        {%- for dimension in dimensions %},
        hours.{{ dimension }}
        {%- endfor %}
    {%- endfor %}
),

ranked as (
    select
        *,
        row_number() over (
            partition by model, breakdown, model_version
            order by logged desc, segment asc
        ) as place
    from parts
),

counted as (
    select
        ranked.model,
        ranked.breakdown,
        ranked.model_version,
        ranked.segment,
        ranked.position,
        ranked.logged,
        {{ spread('ranked.logged', 'ranked.reward_squared', 'ranked.reward') }}
            as spread
        {%- for name in sums %},
        {{ as_double('ranked.' ~ name) }} as {{ name }}
        {%- endfor %}
    from ranked
    where ranked.breakdown != 'segment' or ranked.place <= 100
),

valued as (
    select
        *,
        {{ effective_sample_size('w', 'w_squared') }} as effective_rows,
        w / nullif(logged, 0) as mean_weight,
        reward / nullif(logged, 0) as mean_reward,
        w_reward / nullif(logged, 0) as ips,
        w_reward / nullif(w, 0) as snips
    from counted
    {{ fence() }}
),

varied as (
    select
        *,
        (w_squared / nullif(logged, 0) - mean_weight * mean_weight)
        / nullif(logged - 1, 0) as mean_weight_variance,
        {{ sample_variance('logged', 'spread') }} / nullif(logged, 0)
            as mean_reward_variance,
        {{ ips_variance() }} as ips_variance,
        {{ snips_variance() }} as snips_variance
    from valued
    {{ fence() }}
),

estimated as (
    select
        *
        {%- for name in ['mean_weight', 'mean_reward', 'ips', 'snips'] %},
        case
            when {{ name }}_variance is not null
                then sqrt(greatest({{ name }}_variance, 0))
        end as {{ name }}_stderr
        {%- endfor %}
    from varied
)

select
    estimated.model,
    estimated.breakdown,
    estimated.model_version,
    estimated.segment,
    estimated.position,
    case
        when coalesce(estimated.effective_rows, 0) < policies.min_sample
            then 'too few rows'
        when
            abs(estimated.mean_weight - 1) > 0.000001
            + {{ z_of(0.999) }} * estimated.mean_weight_stderr
            then 'weights off'
        else 'estimated'
    end as status,
    estimated.logged,
    estimated.effective_rows,
    estimated.mean_weight,
    estimated.mean_weight_stderr
    {%- for name in ['mean_reward', 'ips', 'snips'] %},
    estimated.{{ name }},
    estimated.{{ name }}_stderr,
    estimated.{{ name }} - {{ z_of(0.95) }} * estimated.{{ name }}_stderr
        as {{ name }}_low,
    estimated.{{ name }} + {{ z_of(0.95) }} * estimated.{{ name }}_stderr
        as {{ name }}_high
    {%- endfor %}
from estimated
inner join {{ ref('model_policies') }} as policies on estimated.model = policies.model
