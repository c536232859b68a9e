-- Thresholds are rows: changing one needs no redeploy, and the views follow at once.

-- grain: one policy that exists.  key: policy.
create table if not exists control.policy_kinds (
    policy text primary key,
    kind text not null check (kind in ('number', 'interval', 'text')),
    default_value text not null,
    description text not null
);

-- noqa: disable=LT05
insert into control.policy_kinds (policy, kind, default_value, description) values
('positive_label', 'text', '', 'the label that score is the probability of; empty: found from the predictions'),
('label_window', 'interval', '0 seconds', 'how long after an inference its label may still change; final afterwards'),
('metric_window', 'interval', '1 day', 'how far back retrain_trigger looks at labels that became known'),
('drift_window', 'interval', '1 hour', 'length of the current window of feature_drift, and of a first reference'),
('min_new_labels', 'number', '200', 'new labels that make a retrain due'),
('min_sample', 'number', '100', 'fewest rows for which a metric or a drift value is taken seriously'),
('max_metric_drop', 'number', '0.05', 'relative loss of AUC against the promotion baseline that makes a retrain due'),
('psi_alert', 'number', '0.25', 'population stability index from which a feature has drifted'),
('cooldown', 'interval', '10 minutes', 'shortest event time between the end of one run and the next trigger'),
('gate_metric', 'text', 'log_loss', 'what a candidate is compared by: log_loss, auc, f1, accuracy or brier'),
('min_improvement', 'number', '0.005', 'relative improvement that a candidate needs on the newest labels'),
('max_forgetting', 'number', '0.05', 'relative loss on old labels that a candidate may have'),
('max_slice_drop', 'number', '0.1', 'relative loss that a candidate may have in one segment')
on conflict (policy) do update set
    kind = excluded.kind,
    default_value = excluded.default_value,
    description = excluded.description;
-- noqa: enable=LT05

-- grain: one threshold of one model.  key: (model, policy).
-- model '*' holds what holds for all; a row with the model's own name wins over it.
create table if not exists control.policies (
    model text not null,
    policy text not null references control.policy_kinds,
    value text not null,
    updated_at timestamptz not null default clock_timestamp(),
    primary key (model, policy)
);

-- A value that a view could not cast would break the view, so it is refused here.
create or replace function control.check_policy() returns trigger
language plpgsql as $$
declare
    wanted text := (select kind from control.policy_kinds where policy = new.policy);
begin
    if wanted = 'number' and not (new.value ~ '^-?[0-9]{1,15}(\.[0-9]{1,15})?$') then
        raise exception 'policy %: must be a number, got %', new.policy, new.value
        using errcode = 'check_violation';
    elsif new.policy = 'gate_metric'
        and new.value not in ('log_loss', 'auc', 'f1', 'accuracy', 'brier') then
        raise exception
            'policy gate_metric: must be one of log_loss, auc, f1, accuracy, brier, got %', new.value
        using errcode = 'check_violation';
    elsif wanted = 'interval' then
        begin
            if not new.value::interval between interval '0' and interval '100 years' then
                raise exception 'out of range' using errcode = 'invalid_datetime_format';
            end if;
        exception when others then
            raise exception 'policy %: must be an interval such as ''1 day'', up to 100 years, got %',
                new.policy, new.value using errcode = 'check_violation';
        end;
    end if;
    return new;
end
$$;

create or replace trigger check_policy before insert or update on control.policies
for each row execute function control.check_policy();

insert into control.policies (model, policy, value)
select
    '*' as model,
    policy,
    default_value
from control.policy_kinds
on conflict (model, policy) do nothing;
