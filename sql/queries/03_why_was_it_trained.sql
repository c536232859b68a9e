-- Why was each model trained, with what result, and which triggers are held back now?
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
