-- Predictions: volume, errors, and the distribution of scores.
-- Of the classes that a version predicts a pane keeps 256 apart (pane_most.sql); the others, and what
-- is no class, have a null prediction.
-- grain: pane by version, variant and prediction; the hourly ones by segment, too.
-- key: all but the measures.  lateness: any.
{{ config(
    key=[
        'model', 'grain', 'pane_start', 'model_version', 'variant', 'segment', 'prediction'
    ],
    deltas=['events.inference'],
    merge={'counts': 'blocks'},
    most={'prediction': most_categories()},
    retention={'1 minute': '2 days', '1 hour': '400 days'}
) }}

with predictions as (
    select
        model,
        model_version,
        variant,
        segment,
        event_time,
        error,
        {{ as_class('prediction') }} as prediction,
        {{ score_bin('score') }} as bin,
        {{ score_measures('score') }}
    from {{ ref('stg_inference') }}
    {{ fence() }}
)

{%- for grain, segment in [('1 minute', 'null::text'), ('1 hour', 'segment')] %}
{%- if not loop.first %}
union all
{%- endif %}
select
    '{{ grain }}' as grain,
    {{ pane_start(grain, 'event_time') }} as pane_start,
    model,
    model_version,
    variant,
    {{ segment }} as segment,
    prediction,
    count(*) as inferences,
    count(error) as errors,
    {{ score_sums() }},
    {{ block_counts_if_any('bin', score_block()) }} as counts
from predictions
group by 2, 3, 4, 5, 6, 7
{%- endfor %}
