-- The distribution of every feature that events carry. Shadow predictions repeat the features of
-- others and are left out. A number falls into a DDSketch bucket and a place on each ring within it
-- (macros/statistics/rings.sql), a string or bool is its own category, a missing value has neither.
-- Of the strings of a feature a pane keeps 256 apart (pane_most.sql); the others are the row of type
-- string without a category.
-- grain: pane of 1 minute or 1 hour by feature, type and block of buckets or category.
-- key: all but the measures.  lateness: any.
{{ config(
    key=['model', 'grain', 'pane_start', 'feature', 'type', 'block', 'category'],
    deltas=['events.inference'],
    parallel=true,
    most={'category': most_categories()},
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

minutes as (
    select
        minute as pane_start,
        model,
        feature,
        type,
        {{ feature_block() }} as block,
        category,
        {{ feature_measures() }}
    from placed
    group by 1, 2, 3, 4, 5, 6
)

select
    '1 minute' as grain,
    pane_start,
    model,
    feature,
    type,
    block,
    category,
    predictions,
    counts,
    rings
from minutes
union all
select
    '1 hour' as grain,
    {{ pane_start('1 hour', 'pane_start') }} as pane_start,
    model,
    feature,
    type,
    block,
    category,
    sum(predictions)::bigint as predictions,
    case
        when block is not null then {{ added_blocks('counts', sketch_block()) }}
    end as counts,
    case
        when block is not null then {{ added_blocks('rings', ring_places()) }}
    end as rings
from minutes
group by 2, 3, 4, 5, 6, 7
