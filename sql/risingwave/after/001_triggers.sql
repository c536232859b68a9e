-- What other systems follow: changes of the triggers, and the due ones as messages of a topic.
-- A new version of the views drops both with what they read; they are then made again.

-- grain: one change of a row of headrace.retrain_trigger, kept for a week.
-- Delivered at least once: `declare … subscription cursor for headrace.retrain_trigger_changes`.
create subscription if not exists headrace.retrain_trigger_changes
from headrace.retrain_trigger
with (retention = '7D');

-- grain: one trigger that is due.  key: trigger_id; sent again when a reason changes.
create sink if not exists headrace.due_triggers as
select
    trigger_id,
    model,
    model_version,
    reason,
    new_labels,
    examples,
    first_new_label_at
from headrace.retrain_trigger
where due
with (
    ${kafka},
    topic = '${prefix}triggers',
    primary_key = 'trigger_id'
) format plain encode json (
    force_append_only = 'true'
);
