-- Latency of predictions as a DDSketch: quantiles of any window with 1 % relative error.
-- grain: pane of 10 seconds or 1 hour by version, variant, endpoint and block of buckets; the
-- block is null without a latency.  key: all but the measures.  lateness: any.
{{ config(
    key=['model', 'grain', 'pane_start', 'model_version', 'variant', 'endpoint', 'block'],
    deltas=['events.inference'],
    retention={'10 seconds': '2 days', '1 hour': '400 days'}
) }}

with predictions as (
    select
        model,
        model_version,
        variant,
        endpoint,
        event_time,
        error,
        {{ micro('case
            when latency_ms < 1e9 then latency_ms
            when latency_ms is not null then 1e9
        end') }} as latency_micro,
        {{ sketch_bucket('latency_ms') }} as bucket
    from {{ ref('stg_inference') }}
    {{ fence() }}
)

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
    endpoint,
    {{ bucket_block('bucket') }} as block,
    count(*) as inferences,
    count(error) as errors,
    coalesce(sum(latency_micro), 0)::bigint as latency_micro,
    {{ block_counts(bucket_place('bucket'), sketch_block()) }} as counts
from predictions
group by 2, 3, 4, 5, 6, 7
{%- endfor %}
