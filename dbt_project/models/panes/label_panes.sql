-- Labels against predictions and scores: what AUC, log loss, F1, RMSE and calibration are computed
-- from. By the time of the inference (1 minute, 1 hour) and by the time from which its label counts
-- (1 hour).
-- grain: pane, version, variant, label, prediction and outcome; the hourly ones by segment, too.
-- Labels and predictions that are measures rather than classes are null. A reward has an outcome
-- and no label.  key: all but the measures.
-- lateness: any; a revised label moves from its old row to the new one.
{{ config(
    key=[
        'model', 'clock', 'grain', 'pane_start', 'model_version', 'variant', 'segment',
        'label', 'prediction', 'outcome'
    ],
    deltas=['panes.labels'],
    merge={'counts': 'blocks'},
    retention={'1 minute': '2 days', '1 hour': '400 days'}
) }}

{%- set error = 'predicted_number - number' -%}
{%- set panes = [
    ('inference', '1 minute', 'inference_time', 'null::text'),
    ('inference', '1 hour', 'inference_time', 'segment'),
    ('label', '1 hour', 'settled_at', 'segment')
] %}
with numbered as (
    select
        model,
        model_version,
        variant,
        segment,
        inference_time,
        settled_at,
        label,
        prediction,
        score,
        {{ exact('reward') }} as reward,
        case when {{ is_reward() }} then
            case when label in ('0', '1') then label else 'other' end
        end as outcome,
        case when not {{ is_reward() }} then {{ as_number('label') }} end as number,
        {{ as_number('prediction') }} as predicted_number
    from {{ ref('labels') }}
    where settled_at is not null
    {{ fence() }}
),

judged as (
    select
        model,
        model_version,
        variant,
        segment,
        inference_time,
        settled_at,
        case when outcome is null then {{ as_class('label', 'number') }} end as label,
        {{ as_class('prediction', 'predicted_number') }} as prediction,
        outcome,
        {{ score_bin('score') }} as bin,
        {{ score_measures('score') }},
        reward,
        reward * reward as reward_squared,
        {{ summable('abs(predicted_number - number)', error) }} as absolute_error,
        {{ summable('(' ~ error ~ ') * (' ~ error ~ ')', error) }} as squared_error
    from numbered
    {{ fence() }}
),

placed as (
    select
        *,
        unnest(array[
            {%- for clock, _, _, _ in panes %}
            '{{ clock }}'{{ ',' if not loop.last }}
            {%- endfor %}
        ]) as clock,
        unnest(array[
            {%- for _, grain, _, _ in panes %}
            '{{ grain }}'{{ ',' if not loop.last }}
            {%- endfor %}
        ]) as grain,
        unnest(array[
            {%- for _, grain, time, _ in panes %}
            {{ pane_start(grain, time) }}{{ ',' if not loop.last }}
            {%- endfor %}
        ]) as pane_start,
        unnest(array[
            {%- for _, _, _, segment in panes %}
            {{ segment }}{{ ',' if not loop.last }}
            {%- endfor %}
        ]) as pane_segment
    from judged
    {{ fence() }}
)

select
    clock,
    grain,
    pane_start,
    model,
    model_version,
    variant,
    pane_segment as segment,
    label,
    prediction,
    outcome,
    count(*) as examples,
    {{ score_sums() }},
    sum(reward) as reward,
    sum(reward_squared) as reward_squared,
    count(absolute_error) as measured,
    coalesce(sum(absolute_error), 0) as absolute_error,
    coalesce(sum(squared_error), 0) as squared_error,
    {{ block_counts_if_any('bin', score_block()) }} as counts
from placed
group by 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
