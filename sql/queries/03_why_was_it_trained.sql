-- Why was each model trained, with which outcome, and what is held back now?
select
    event_time,
    model,
    trigger_id,
    status,
    reason,
    outcome,
    held_back_by
from headrace.trigger_log
order by event_time desc
limit 50;
