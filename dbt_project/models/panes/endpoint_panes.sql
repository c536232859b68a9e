-- Labels by endpoint and day: how often the predictions of an endpoint were right, rewards left out,
-- and what they earned. Shadow predictions are left out.
-- grain: day of the inference and endpoint.  key: all but the measures.
-- lateness: any; a revised label changes the day of its inference.
{{ config(
    key=['model', 'pane_start', 'endpoint'],
    deltas=['panes.labels'],
    retention='400 days'
) }}

with judged as (
    select
        labels.model,
        {{ pane_start('1 day', 'labels.inference_time') }} as pane_start,
        inference.endpoint,
        case
            when not {{ is_reward('labels.kind') }} then {{ as_class('labels.label') }}
        end as label,
        {{ as_class('labels.prediction') }} as prediction,
        {{ exact('labels.reward') }} as reward
    from {{ ref('labels') }} as labels
    inner join {{ ref('stg_inference') }} as inference
        on
            labels.request_id = inference.request_id
            and {{ is_same_prediction('labels', 'inference') }}
    where
        labels.variant != 'shadow'
        and labels.label is not null
        and labels.settled_at is not null
    {{ fence() }}
)

select
    model,
    pane_start,
    endpoint,
    count(*) as labels,
    count(case when label is not null and prediction is not null then 1 end)
        as classified,
    count(case when label = prediction then 1 end) as correct,
    coalesce(sum(reward), 0) as reward
from judged
group by 1, 2, 3
