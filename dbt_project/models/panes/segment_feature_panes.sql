-- The distribution of every feature in each segment, counted as feature_panes counts it. Predictions
-- without a segment, and shadow predictions, are left out.
-- grain: pane of 1 hour by segment, feature, type and block of buckets or category.
-- key: all but the measures.  lateness: any.
{{ config(
    key=['model', 'pane_start', 'segment', 'feature', 'type', 'block', 'category'],
    deltas=['events.inference'],
    parallel=true,
    retention='90 days'
) }}

with named as (
    select
        {{ pane_start('1 hour', 'event_time') }} as pane_start,
        model,
        segment,
        features,
        jsonb_object_keys(features) as feature
    from {{ ref('stg_inference') }}
    where segment is not null and variant != 'shadow'
),

{{ typed_features('named', ['pane_start', 'model', 'segment']) }},

binned as (
    select
        pane_start,
        model,
        segment,
        feature,
        type,
        category,
        {{ sketch_bucket('number') }} as bucket,
        count(*)::integer as predictions
    from numbered
    group by 1, 2, 3, 4, 5, 6, 7
)

select
    pane_start,
    model,
    segment,
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
from binned
group by 1, 2, 3, 4, 5, 6, 7
