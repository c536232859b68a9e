-- What happened to a request: its prediction, shadows, feedback and label?
select
    happened_at,
    step,
    model_version,
    outcome,
    number,
    detail
from headrace.request_history
where
    request_id = (
        select feedback.request_id from headrace.feedback
        order by feedback.event_time desc
        limit 1
    )
order by happened_at;
