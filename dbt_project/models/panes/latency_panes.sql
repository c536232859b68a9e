-- Latency of answers as a DDSketch: quantiles of any window with 1 % relative error.
-- grain: pane and bucket.  key: all but answers.  lateness: any.
{{ config(
    key=['model', 'grain', 'pane_start', 'model_version', 'variant', 'bucket'],
    drivers=['events.inference']
) }}

{%- for grain in ['10 seconds', '1 hour'] %}
{%- if not loop.first %}
union all
{%- endif %}
select
    '{{ grain }}' as grain,
    {{ pane_start(grain, 'event_time') }} as pane_start,
    model,
    model_version,
    variant,
    {{ sketch_bucket('latency_ms') }} as bucket,
    count(*) as answers
from {{ ref('stg_inference') }}
where latency_ms is not null
group by 2, 3, 4, 5, 6
{%- endfor %}
