-- Everything about a request, a step a row: its prediction, those of shadows, all feedback on it,
-- and the label that it has now. Ask for one request: every part has an index on it.
-- grain: step of a request, and prediction.  key: (request_id, model, item_id, step, step_id).
-- lateness: any; a late step takes its place, and the label is replaced.
select
    request_id,
    'prediction' as step,
    request_id as step_id,
    model,
    item_id,
    model_version,
    event_time as happened_at,
    ingested_at,
    prediction as outcome,
    score as number,
    concat_ws('; ', variant, endpoint, segment, error) as detail
from {{ source('events', 'inference') }}
where shadow_of is null
union all
select
    shadow_of as request_id,
    'shadow prediction' as step,
    request_id as step_id,
    model,
    item_id,
    model_version,
    event_time as happened_at,
    ingested_at,
    prediction as outcome,
    score as number,
    concat_ws('; ', variant, endpoint, segment, error) as detail
from {{ source('events', 'inference') }}
where shadow_of is not null
union all
select
    feedback.request_id,
    'feedback' as step,
    feedback.feedback_id as step_id,
    inference.model,
    inference.item_id,
    inference.model_version,
    feedback.event_time as happened_at,
    feedback.ingested_at,
    feedback.label as outcome,
    feedback.value as number,
    concat_ws(
        '; ',
        feedback.kind,
        feedback.source,
        case when inference.request_id is null then 'waits for its prediction' end,
        'preferred to ' || feedback.rejected_request_id
    ) as detail
from {{ source('events', 'feedback') }} as feedback
left join {{ source('events', 'inference') }} as inference
    on
        feedback.request_id = inference.request_id
        and {{ is_about('feedback', 'inference') }}
union all
select
    feedback.rejected_request_id as request_id,
    'lost preference' as step,
    feedback.feedback_id as step_id,
    inference.model,
    inference.item_id,
    inference.model_version,
    feedback.event_time as happened_at,
    feedback.ingested_at,
    feedback.label as outcome,
    feedback.value as number,
    concat_ws('; ', feedback.source, 'lost to ' || feedback.request_id) as detail
from {{ source('events', 'feedback') }} as feedback
left join {{ source('events', 'inference') }} as inference
    on
        feedback.rejected_request_id = inference.request_id
        and {{ is_about('feedback', 'inference', item=false) }}
where feedback.rejected_request_id is not null
union all
select
    request_id,
    'label' as step,
    request_id as step_id,
    model,
    item_id,
    model_version,
    known_at as happened_at,
    ingested_at,
    label as outcome,
    reward as number,
    concat_ws('; ', kind, source) as detail
from {{ ref('labels') }}
where variant != 'shadow'
