-- Why was each model trained, what came of it, and what is held back at the moment?
select
    event_time,
    model,
    trigger_id,
    status,
    reason,
    held_back_by
from headrace.trigger_log
order by event_time desc
limit 50;
