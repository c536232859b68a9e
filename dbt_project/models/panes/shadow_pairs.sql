-- Shadow predictions with the predictions that were served; a prediction is no shadow of itself.
-- grain: shadow prediction whose served prediction has come, of the same model and item.
-- key: (request_id, model, item_id) of the shadow.
-- lateness: any; a shadow prediction may come before the one that it shadows.
-- Reads the sources: a staging model that is referenced twice would be computed twice, in full.
{{ config(
    key=['request_id', 'model', 'item_id'],
    recompute={
        'events.inference': '
            select request_id from new_rows where shadow_of is not null
            union all
            select i.request_id from new_rows as n
            inner join events.inference as i on i.shadow_of = n.request_id',
    },
    retention='400 days',
    time_column='event_time'
) }}

select
    request_id,
    model,
    item_id,
    shadow_of,
    shadow_version,
    served_version,
    segment,
    shadow_prediction,
    served_prediction,
    shadow_score,
    served_score,
    event_time
from (
    select
        shadow.request_id,
        shadow.model,
        shadow.item_id,
        shadow.shadow_of,
        shadow.model_version as shadow_version,
        served.model_version as served_version,
        shadow.segment,
        shadow.prediction as shadow_prediction,
        served.prediction as served_prediction,
        shadow.score as shadow_score,
        served.score as served_score,
        shadow.event_time
    from {{ source('events', 'inference') }} as shadow
    inner join {{ source('events', 'inference') }} as served
        on
            shadow.shadow_of = served.request_id
            and {{ is_same_prediction('shadow', 'served') }}
) as pairs
where request_id != shadow_of
