-- The features that Feast serves online equal those that it would train on as of now.
with newest as (
    select
        model,
        segment,
        max(event_timestamp) as event_timestamp
    from {{ ref('segment_feature_history') }}
    group by model, segment
)

select
    history.model,
    history.segment,
    history.event_timestamp,
    history.labels_30d,
    history.positives_30d,
    features.event_timestamp as served_timestamp,
    features.labels_30d as served_labels,
    features.positives_30d as served_positives
from newest
inner join {{ ref('segment_feature_history') }} as history
    on
        newest.model = history.model
        and newest.segment = history.segment
        and newest.event_timestamp = history.event_timestamp
left join {{ ref('segment_features') }} as features
    on newest.model = features.model and newest.segment = features.segment
where
    features.event_timestamp < history.event_timestamp
    or features.labels_30d is distinct from history.labels_30d
    or features.positives_30d is distinct from history.positives_30d
