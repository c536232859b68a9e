-- How good every version was in every window of inference time, as far as labels have come.
-- grain: window and version.  key: (window_name, window_end, model, model_version, variant).
-- lateness: any; a late label or a revision changes the window of its inference.
{%- set by = [
    'window_name', 'window_start', 'window_end', 'model', 'model_version', 'variant'
] %}
{%- set keys = by | join(', ') %}

with volume_panes as (
    {{ in_windows(ref('inference_panes'), [
        'model', 'model_version', 'variant', 'inferences', 'errors', 'scored', 'score_micro'
    ]) }}
),

volume as (
    select
        {{ keys }},
        sum(inferences)::bigint as inferences,
        sum(errors)::bigint as errors,
        sum(score_micro)::double precision / 1000000 / nullif(sum(scored), 0)
            as mean_score
    from volume_panes
    group by {{ keys }}
),

latency_panes as (
    {{ in_windows(ref('latency_panes'), [
        'model', 'model_version', 'variant', 'bucket', 'answers'
    ]) }}
),

latency_buckets as (
    select
        {{ keys }},
        bucket,
        sum(answers) as answers
    from latency_panes
    group by {{ keys }}, bucket
),

latency_ranks as (
    select
        {{ keys }},
        bucket,
        sum(answers) over (
            partition by {{ keys }}
            order by bucket
            rows between unbounded preceding and current row
        ) as up_to,
        sum(answers) over (
            partition by {{ keys }}
            order by bucket
            rows between unbounded preceding and unbounded following
        ) as total
    from latency_buckets
),

latency as (
    select
        {{ keys }},
        {{ sketch_value('min(bucket) filter (where up_to >= 0.50 * total)') }}
            as latency_p50_ms,
        {{ sketch_value('min(bucket) filter (where up_to >= 0.95 * total)') }}
            as latency_p95_ms,
        {{ sketch_value('min(bucket) filter (where up_to >= 0.99 * total)') }}
            as latency_p99_ms
    from latency_ranks
    group by {{ keys }}
),

label_panes as (
    select
        panes.*,
        positive.positive_label
    from {{ ref('label_panes') }} as panes
    inner join {{ ref('positive_labels') }} as positive on panes.model = positive.model
    where panes.clock = 'inference'
),

labels {{ as_inlined() }} (
    {{ in_windows('label_panes', [
        'model', 'model_version', 'variant', 'label', 'prediction', 'positive_label', 'score_bin',
        'examples', 'score_squared_micro', 'score_micro', 'log_score_micro', 'log_complement_micro'
    ]) }}
),

{{ classification('quality', 'labels', by) }}

select
    {% for key in by %}volume.{{ key }},
    {% endfor -%}
    volume.inferences,
    volume.errors,
    volume.errors::double precision / volume.inferences as error_rate,
    volume.mean_score,
    latency.latency_p50_ms,
    latency.latency_p95_ms,
    latency.latency_p99_ms,
    coalesce(quality.labeled, 0) as labeled,
    coalesce(quality.labeled, 0)::double precision / volume.inferences as label_rate,
    coalesce(quality.positives, 0) as positives,
    quality.accuracy,
    quality.precision,
    quality.recall,
    quality.f1,
    quality.auc,
    quality.auc_error,
    quality.log_loss,
    quality.brier
from volume
left join latency
    on
        {%- for key in by %}
        {{ 'and ' if not loop.first }}volume.{{ key }} = latency.{{ key }}
        {%- endfor %}
left join quality
    on
        {%- for key in by %}
        {{ 'and ' if not loop.first }}volume.{{ key }} = quality.{{ key }}
        {%- endfor %}
