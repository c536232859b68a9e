-- The predictions of each canary and of its champion since the canary began, with errors and
-- latency. canary_verdict judges them.
-- The hour in which a canary began is read in panes of 10 seconds while these are kept, else whole.
-- grain: canary version.  key: (model, model_version).
-- lateness: any; a late prediction counts.
{%- set variants = [('', 'canary'), ('champion_', 'champion')] %}
{%- set by = ['model', 'model_version', 'variant'] %}
with {{ canary_sides() }},

spans as (
    select
        *,
        '1 hour' as grain,
        start_hour as span_start,
        event_clock + interval '1 second' as span_end
    from sides
    union all
    select
        *,
        '10 seconds' as grain,
        first_pane as span_start,
        start_hour as span_end
    from sides
    where first_pane is not null
),

prediction_rows as (
    select
        spans.model,
        spans.model_version,
        spans.variant,
        panes.inferences,
        panes.errors,
        panes.block,
        panes.counts
    from spans
    inner join {{ ref('latency_panes') }} as panes
        on
            spans.model = panes.model
            and spans.grain = panes.grain
            and spans.side_version = panes.model_version
            and spans.variant = panes.variant
            and spans.span_start <= panes.pane_start
            and spans.span_end > panes.pane_start
),

predictions as (
    select
        model,
        model_version
        {%- for prefix, variant in variants %},
        sum(case when variant = '{{ variant }}' then inferences else 0 end)::bigint
            as {{ prefix }}predictions,
        sum(case when variant = '{{ variant }}' then errors else 0 end)::bigint
            as {{ prefix }}errors
        {%- endfor %}
    from prediction_rows
    group by model, model_version
),

latency_bins as (
    {{ opened_blocks('prediction_rows', by, sketch_block()) }}
),

{{ quantiles('latencies', 'latency_bins', by, {'p95_ms': 0.95}) }},

latency as (
    select
        model,
        model_version
        {%- for prefix, variant in variants %},
        max(case when variant = '{{ variant }}' then p95_ms end)
            as {{ prefix }}latency_p95_ms
        {%- endfor %}
    from latencies
    group by model, model_version
),

slow as (
    {{ slow_counts('latency_bins', ['model', 'model_version'], [
        ('', "bins.variant = 'canary'"), ('champion_', "bins.variant = 'champion'")
    ]) }}
)

select
    -- ids
    canaries.model,
    canaries.model_version,
    canaries.champion_version,
    canaries.began_at,
    -- predictions
    coalesce(predictions.predictions, 0) as predictions,
    coalesce(predictions.champion_predictions, 0) as champion_predictions,
    coalesce(predictions.errors, 0) as errors,
    coalesce(predictions.champion_errors, 0) as champion_errors,
    latency.latency_p95_ms,
    latency.champion_latency_p95_ms,
    coalesce(slow.timed, 0) as timed,
    coalesce(slow.champion_timed, 0) as champion_timed,
    coalesce(slow.slow, 0) as slow,
    coalesce(slow.champion_slow, 0) as champion_slow
from canaries
{%- for part in ['predictions', 'latency', 'slow'] %}
left join {{ part }}
    on
        canaries.model = {{ part }}.model
        and canaries.model_version = {{ part }}.model_version
{%- endfor %}
