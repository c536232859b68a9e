-- The distribution of every feature, whatever the events carry.
-- A number falls into a DDSketch bucket, a string or bool is its own category, a missing value
-- has neither.
-- grain: minute, version, feature and bin.  key: all but answers.  lateness: any.
{{ config(
    key=['model', 'pane_start', 'model_version', 'feature', 'bucket', 'category'],
    drivers=['events.inference']
) }}

with named as (
    select
        {{ pane_start('1 minute', 'event_time') }} as pane_start,
        model,
        model_version,
        features,
        jsonb_object_keys(features) as feature
    from {{ ref('stg_inference') }}
),

typed as (
    select
        pane_start,
        model,
        model_version,
        feature,
        jsonb_typeof(features -> feature) as type,
        case
            when jsonb_typeof(features -> feature) = 'number'
                then (features ->> feature)::double precision
        end as number,
        features ->> feature as text
    from named
)

select
    pane_start,
    model,
    model_version,
    feature,
    case when type = 'number' then {{ sketch_bucket('number') }} end as bucket,
    case when type in ('string', 'boolean') then left(text, 100) end as category,
    count(*) as answers
from typed
group by 1, 2, 3, 4, 5, 6
