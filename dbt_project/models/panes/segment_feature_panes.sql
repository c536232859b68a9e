-- The distribution of every feature in each segment, counted as feature_panes counts it. Predictions
-- without a segment, and shadow predictions, are left out.
-- grain: pane of 1 hour by segment, feature, type and block of buckets or category.
-- key: all but the measures.  lateness: any.
{{ config(
    key=['model', 'pane_start', 'segment', 'feature', 'type', 'block', 'category'],
    deltas=['events.inference'],
    parallel=true,
    most={'category': most_categories()},
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

{{ typed_features('named', ['pane_start', 'model', 'segment']) }}

select
    pane_start,
    model,
    segment,
    feature,
    type,
    {{ feature_block() }} as block,
    category,
    {{ feature_measures() }}
from placed
group by 1, 2, 3, 4, 5, 6, 7
