-- Rewards of arms, with the weights of inverse propensity scoring. An arm is a predicted class,
-- or the answer or item that was chosen with a propensity; w is 1 / propensity. A prediction without a propensity
-- counts as a pull only.
-- grain: hour of the inference, version, variant and arm.  key: all but the measures.
-- lateness: any; a label counts once it is settled, and a revised one changes its reward.
{{ config(
    key=['model', 'pane_start', 'model_version', 'variant', 'arm'],
    deltas=['panes.labels'],
    retention='400 days'
) }}

with pulls as (
    select
        model,
        model_version,
        variant,
        inference_time,
        case
            when prediction is null and propensity is not null
                then {{ arm_of('item_id', 'propensity') }}
            else {{ arm_of('prediction', 'propensity') }}
        end as arm,
        {{ exact('reward') }} as reward,
        {{ summable(
            'round(1 / nullif((propensity)::numeric, 0), 6)',
            'greatest(abs(reward), 1) / nullif(propensity, 0)'
        ) }} as w
    from {{ ref('labels') }}
    where variant != 'shadow' and settled_at is not null
    {{ fence() }}
)

select
    model,
    {{ pane_start('1 hour', 'inference_time') }} as pane_start,
    model_version,
    variant,
    arm,
    count(*) as pulls,
    coalesce(sum(reward), 0) as reward,
    coalesce(sum(reward * reward), 0) as reward_squared,
    count(w) as logged,
    coalesce(sum(w), 0) as w,
    coalesce(sum(w * w), 0) as w_squared,
    coalesce(sum(w * reward), 0) as w_reward,
    coalesce(sum(w * w * reward), 0) as w_squared_reward,
    coalesce(sum(w * w * reward * reward), 0) as w_squared_reward_squared
from pulls
group by 1, 2, 3, 4, 5
