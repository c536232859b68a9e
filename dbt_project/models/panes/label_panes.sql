-- Labels against predictions and scores: all that AUC, log loss, F1, RMSE and calibration need.
-- By the time of the inference (10 seconds, 1 hour) and by the time its label was known (1 hour).
-- grain: pane, version, variant, label and prediction; the hourly ones by segment, too. Labels and
-- predictions that are measures rather than classes are null.  key: all but the measures.
-- lateness: any; a revised label is taken out of its old row and put into the new one.
{{ config(
    key=[
        'model', 'clock', 'grain', 'pane_start', 'model_version', 'variant', 'segment',
        'label', 'prediction'
    ],
    drivers=['panes.labels'],
    retention={'10 seconds': '2 days', '1 hour': '400 days'}
) }}

{%- set panes = [
    ('inference', '10 seconds', 'inference_time', 'null::text'),
    ('inference', '1 hour', 'inference_time', 'segment'),
    ('label', '1 hour', 'known_at', 'segment')
] %}
with judged as (
    select
        model,
        model_version,
        variant,
        segment,
        inference_time,
        known_at,
        score,
        {{ exact('reward') }} as reward,
        {{ as_class('label') }} as label,
        {{ as_class('prediction') }} as prediction,
        {{ as_number('prediction') }} - {{ as_number('label') }} as error,
        {{ score_bin('score') }} as bin
    from {{ ref('labels') }}
    where label is not null
    {{ fence() }}
)

{%- for clock, grain, time, segment in panes %}
{%- if not loop.first %}
union all
{%- endif %}
select
    '{{ clock }}' as clock,
    '{{ grain }}' as grain,
    pane_start,
    model,
    model_version,
    variant,
    segment,
    label,
    prediction,
    sum(examples)::bigint as examples,
    {{ added_score_sums() }},
    sum(reward) as reward,
    sum(reward_squared) as reward_squared,
    sum(measured)::bigint as measured,
    sum(absolute_error) as absolute_error,
    sum(squared_error) as squared_error,
    {{ block_counts('bin', 'examples', score_block()) }} as counts
from (
    select
        {{ pane_start(grain, time) }} as pane_start,
        model,
        model_version,
        variant,
        {{ segment }} as segment,
        label,
        prediction,
        bin,
        count(*) as examples,
        {{ score_sums('score') }},
        sum(reward) as reward,
        sum(reward * reward) as reward_squared,
        count(error) as measured,
        coalesce(sum(abs(error)), 0) as absolute_error,
        coalesce(sum(error * error), 0) as squared_error
    from judged
    group by 1, 2, 3, 4, 5, 6, 7, 8
) as binned_{{ loop.index }}
group by 3, 4, 5, 6, 7, 8, 9
{%- endfor %}
