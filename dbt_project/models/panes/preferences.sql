-- Pairs of predictions of which a user preferred one.
-- Reads the sources: a staging model that is referenced twice would be computed twice, in full.
-- Models are compared by an expression that no index serves, so that joins use request_id alone.
-- grain: preference whose two predictions have come.  key: feedback_id.
-- lateness: any; feedback waits in its topic until both its inferences come.
-- depends_on: {{ ref('waiting_feedback') }}
{{ config(
    key=['feedback_id'],
    recompute={
        'events.inference': '
            select w.feedback_id from new_rows as n
            inner join panes.waiting_feedback as w on w.awaited_id = n.request_id',
        'events.feedback': '
            select feedback_id from new_rows where rejected_request_id is not null',
    },
    retention='400 days',
    time_column='feedback_time'
) }}

select
    feedback_id,
    request_id,
    rejected_request_id,
    model,
    preferred_version,
    rejected_version,
    segment,
    feedback_time
from (
    select
        f.feedback_id,
        f.request_id,
        f.rejected_request_id,
        f.kind,
        preferred.model,
        rejected.model as rejected_model,
        preferred.model_version as preferred_version,
        rejected.model_version as rejected_version,
        preferred.segment,
        f.event_time as feedback_time
    from {{ ref('stg_feedback') }} as f
    inner join {{ source('events', 'inference') }} as preferred
        on f.request_id = preferred.request_id
    inner join {{ source('events', 'inference') }} as rejected
        on f.rejected_request_id = rejected.request_id
) as pairs
where kind = 'preference' and model is not distinct from rejected_model
