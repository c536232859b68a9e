-- How good every version was in every window of inference time, as far as labels have come.
-- grain: window and version.  key: (window_name, window_end, model, model_version, variant).
-- lateness: any; a late label or a revision changes the window of its inference. Windows of
-- minutes are kept for two days behind the model's clock, the others for 400 days.
{%- set by = window_keys() + ['model_version', 'variant'] %}
{%- set keys = by | join(', ') %}
{% call windowed() %}
with volume as (
    select
        {{ keys }},
        sum(inferences)::bigint as inferences,
        sum(errors)::bigint as errors,
        sum(score_micro)::double precision / 1000000 / nullif(sum(scored), 0)
            as mean_score
        {%- for name in label_columns() %},
        max({{ name }}) as {{ name }}
        {%- endfor %}
    from {{ window_rows(ref('inference_panes')) }} as panes
    group by {{ keys }}
),

latency_rows as (
    select * from {{ window_rows(ref('latency_panes'), fine='10 seconds') }} as panes
),

latency_buckets as (
    {{ opened_blocks('latency_rows', by, sketch_block()) }}
),

{{ quantiles('latency', 'latency_buckets', by, {
    'latency_p50_ms': 0.5, 'latency_p95_ms': 0.95, 'latency_p99_ms': 0.99
}) }},

labels as (
    select * from {{ window_rows(ref('label_panes')) }} as panes
    where clock = 'inference'
),

{{ classification('quality', 'labels', by) }},

class_rows as (
    select * from {{ window_rows(ref('class_panes')) }} as panes
    where clock = 'inference'
),

{{ class_areas('areas', 'class_rows', by) }},

{{ macro_area('area', 'areas', by) }}

select
    {% for key in by %}volume.{{ key }},
    {% endfor -%}
    volume.inferences,
    volume.errors,
    volume.errors::double precision / nullif(volume.inferences, 0) as error_rate,
    volume.mean_score,
    latency.latency_p50_ms,
    latency.latency_p95_ms,
    latency.latency_p99_ms,
    coalesce(quality.labeled, 0) as labeled,
    coalesce(quality.labeled, 0)::double precision / nullif(volume.inferences, 0)
        as label_rate,
    case when volume.positive_label is not null then coalesce(quality.positives, 0) end
        as positives,
    {%- for metric in [
        'accuracy', 'precision', 'recall', 'f1', 'macro_f1', 'auc', 'auc_error',
        'log_loss', 'brier', 'calibration_error', 'rmse', 'mae', 'mean_reward'
    ] %}
    quality.{{ metric }},
    {%- endfor %}
    {{ macro_auc_columns('area', 'volume.task') }},
    {%- for name in label_columns() %}
    volume.{{ name }}{{ ',' if not loop.last }}
    {%- endfor %}
from volume
{%- for measured in ['latency', 'quality', 'area'] %}
left join {{ measured }}
    on
        {%- for key in by %}
        {{ 'and ' if not loop.first }}volume.{{ key }} = {{ measured }}.{{ key }}
        {%- endfor %}
{%- endfor %}
{% endcall %}
