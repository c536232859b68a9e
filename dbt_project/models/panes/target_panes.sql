-- Rewards of predictions of which another policy's propensity is known, too, with the weights of
-- inverse propensity scoring: w = target_propensity / propensity.
-- grain: hour of the inference, version, segment and position (100 is 100 or later).
-- key: all but the measures.
-- lateness: any; a label counts once it is settled, and a revised one changes its reward.
{{ config(
    key=['model', 'pane_start', 'model_version', 'segment', 'position'],
    deltas=['panes.labels'],
    retention='400 days'
) }}

with known as (
    select
        labels.model,
        labels.model_version,
        labels.segment,
        case when labels.position > 100 then 100 else labels.position end as position,
        labels.inference_time,
        {{ exact('labels.reward') }} as reward,
        {{ summable(
            'round((labels.target_propensity)::numeric'
            ~ ' / nullif((labels.propensity)::numeric, 0), 6)',
            'greatest(abs(labels.reward), 1) * labels.target_propensity'
            ~ ' / nullif(labels.propensity, 0)'
        ) }} as w
    from {{ ref('labels') }} as labels
    where
        labels.variant != 'shadow'
        and labels.settled_at is not null
        and labels.target_propensity is not null
        and labels.propensity is not null
    {{ fence() }}
)

select
    known.model,
    {{ pane_start('1 hour', 'known.inference_time') }} as pane_start,
    known.model_version,
    known.segment,
    known.position,
    count(known.w) as logged,
    coalesce(sum(case when known.w is not null then known.reward end), 0) as reward,
    coalesce(sum(
        case when known.w is not null then known.reward * known.reward end
    ), 0) as reward_squared,
    coalesce(sum(known.w), 0) as w,
    coalesce(sum(known.w * known.w), 0) as w_squared,
    coalesce(sum(known.w * known.reward), 0) as w_reward,
    coalesce(sum(known.w * known.w * known.reward), 0) as w_squared_reward,
    coalesce(sum(known.w * known.w * known.reward * known.reward), 0)
        as w_squared_reward_squared
from known
group by 1, 2, 3, 4, 5
