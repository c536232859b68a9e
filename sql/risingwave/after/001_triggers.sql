-- Triggers that became due, for other systems: as a change feed and as messages of a topic.
-- Trainers write them: a materialized view of retrain_trigger would keep hundreds of actors
-- running.

-- grain: one trigger that became due, kept for a week.
-- Delivered at least once: `declare … subscription cursor for control.due_triggers_changes`.
create subscription if not exists control.due_triggers_changes
from control.due_triggers
with (retention = '7D');

-- grain: one trigger that became due.  key: trigger_id.
create sink if not exists control.due_triggers_messages as
select
    trigger_id,
    model,
    model_version,
    reason,
    new_labels,
    examples,
    first_new_label_at
from control.due_triggers
with (
    ${kafka},
    topic = '${prefix}triggers',
    primary_key = 'trigger_id'
) format plain encode json (
    force_append_only = 'true'
);
