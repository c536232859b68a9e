-- What held triggers back, and until when, as trainers saw it.
-- grain: obstacle of a trigger.  key: (trigger_id, obstacle).
-- lateness: none; a row stays when the obstacle is gone.
select
    trigger_id,
    obstacle,
    model,
    reason,
    held_back_by,
    first_seen_at,
    last_seen_at
from {{ source('control', 'trigger_history') }}
where obstacle != ''
