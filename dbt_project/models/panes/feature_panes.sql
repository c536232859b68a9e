-- The distribution of every feature that events carry. Shadow predictions repeat the features of
-- others and are left out. A number falls into a DDSketch bucket, a string or bool is its own
-- category, a missing value has neither.
-- grain: pane of 1 minute or 1 hour by feature, type and block of buckets or category.
-- key: all but the measures.  lateness: any.
{{ config(
    key=['model', 'grain', 'pane_start', 'feature', 'type', 'block', 'category'],
    deltas=['events.inference'],
    parallel=true,
    retention={'1 minute': '2 days', '1 hour': '400 days'}
) }}

with named as (
    select
        {{ pane_start('1 minute', 'event_time') }} as minute,
        model,
        features,
        jsonb_object_keys(features) as feature
    from {{ ref('stg_inference') }}
    where variant != 'shadow'
),

{{ typed_features('named', ['minute', 'model']) }},

binned as (
    select
        minute as pane_start,
        model,
        feature,
        type,
        category,
        {{ sketch_bucket('number') }} as bucket,
        count(*)::integer as predictions
    from numbered
    group by 1, 2, 3, 4, 5, 6
),

binned_by_hour as (
    select
        {{ pane_start('1 hour', 'pane_start') }} as pane_start,
        model,
        feature,
        type,
        category,
        bucket,
        sum(predictions) as predictions
    from binned
    group by 1, 2, 3, 4, 5, 6
)

{%- for grain in ['1 minute', '1 hour'] %}
{%- if not loop.first %}
union all
{%- endif %}
select
    '{{ grain }}' as grain,
    pane_start,
    model,
    feature,
    type,
    {{ bucket_block('bucket') }} as block,
    category,
    sum(predictions)::bigint as predictions,
    case
        when {{ bucket_block('bucket') }} is not null
            then {{ block_counts(
                bucket_place('bucket'), sketch_block(), 'predictions'
            ) }}
    end as counts
from {{ 'binned' if grain == '1 minute' else 'binned_by_hour' }}
group by 2, 3, 4, 5, 6, 7
{%- endfor %}
