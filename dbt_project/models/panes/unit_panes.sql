-- Rewards, errors and labels by groups of the units that predictions were for: how much more they
-- vary for people who come back. A unit is a user, else a session, else the request; which group it
-- is in, a hash of it says. Shadow predictions are left out.
-- grain: day of the inference, version, variant, group of units and label, which is null of rewards
-- and of measures.  key: all but the measures.
-- lateness: any; a label counts once it is settled, and a revised one changes its reward.
{{ config(
    key=['model', 'pane_start', 'model_version', 'variant', 'unit_group', 'label'],
    deltas=['panes.labels'],
    retention='400 days'
) }}

{%- set error = 'predicted_number - number' -%}
with numbered as (
    select
        model,
        model_version,
        variant,
        inference_time,
        coalesce(nullif(user_id, ''), nullif(session_id, '')) as unit,
        request_id,
        {{ exact('reward') }} as reward,
        case when not {{ is_reward() }} then label end as label,
        case when not {{ is_reward() }} then {{ as_number('label') }} end as number,
        {{ as_number('prediction') }} as predicted_number
    from {{ ref('labels') }}
    where variant != 'shadow' and settled_at is not null
    {{ fence() }}
),

measured as (
    select
        model,
        model_version,
        variant,
        inference_time,
        unit,
        {{ unit_group('coalesce(unit, request_id)') }} as unit_group,
        {{ as_class('label', 'number') }} as label,
        reward,
        {{ summable('abs(predicted_number - number)', error) }} as absolute_error,
        {{ summable('(' ~ error ~ ') * (' ~ error ~ ')', error) }} as squared_error
    from numbered
    {{ fence() }}
)

select
    model,
    {{ pane_start('1 day', 'inference_time') }} as pane_start,
    model_version,
    variant,
    unit_group,
    label,
    count(*) as labels,
    count(unit) as known,
    coalesce(sum(reward), 0) as reward,
    coalesce(sum(reward * reward), 0) as reward_squared,
    count(absolute_error) as measured,
    count(case when absolute_error is not null then unit end) as known_measured,
    coalesce(sum(absolute_error), 0) as absolute_error,
    coalesce(sum(squared_error), 0) as squared_error
from measured
group by 1, 2, 3, 4, 5, 6
