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
('max_slice_drop', 'number', '0.1', 'relative loss that a candidate may have in one segment'),
('default_label', 'text', '', 'the label of an answer that nobody judged within label_window; empty: it stays without one'),
('retrain_every', 'interval', '0 seconds', 'longest event time between two runs, if a new label came; 0: no schedule'),
('label_patience', 'interval', '7 days', 'event time without a new label after which drift alone makes a retrain due'),
('forecast_horizon', 'interval', '1 day', 'how far ahead a metric is forecast to cross its threshold'),
('clear_ratio', 'number', '0.8', 'share of a threshold that a value must fall below before an alert clears'),
('page_hinkley_delta', 'number', '0.005', 'rise of the hourly error that Page-Hinkley takes for noise'),
('page_hinkley_threshold', 'number', '0.5', 'Page-Hinkley statistic of the error from which the concept has drifted'),
('psi_halt', 'number', '1.0', 'population stability index of the output from which a version is taken out'),
('rollback_window', 'interval', '2 minutes', 'window in which errors are counted for a rollback'),
('max_error_rate', 'number', '0.05', 'share of errors in that window that makes a rollback due'),
('max_canary_loss', 'number', '0.02', 'absolute loss of reward that a canary may have'),
('canary_alpha', 'number', '0.05', 'chance of calling a canary different that is not'),
('max_report_rate', 'number', '1000', 'reports per 100,000 answers that alert'),
('max_latency_ms', 'number', '500', '95th percentile of latency from which more capacity is wanted'),
('quality_tolerance', 'number', '0.1', 'rise in the share of null, unseen or out-of-range values that alerts'),
('volume_gap', 'interval', '10 minutes', 'silence of a model that alerts'),
('session_gap', 'interval', '30 minutes', 'inactivity of a user that ends a session')
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

-- grain: how one kind of feedback on one model becomes a label.  key: (model, kind).
-- model '*' holds what holds for all; a row with the model's own name wins over it.
--   wins      which of several opinions of this kind counts
--   priority  which kind counts where several speak: the highest, then the latest
--   weight    reward of a value of 1, or of a right answer where the kind carries no value
create table if not exists control.label_policies (
    model text not null,
    kind text not null check (kind in (
        'rating', 'thumbs', 'click', 'dwell', 'purchase', 'conversion', 'correction',
        'label'
    )),
    wins text not null default 'last' check (wins in ('first', 'last', 'sum', 'max')),
    priority integer not null default 0,
    weight double precision not null default 1 check (abs(weight) <= 1e9),
    primary key (model, kind)
);

-- Labels are made again when it changes, and not beside a batch that still follows the old one.
create or replace trigger a_turn
after insert or update or delete on control.label_policies
for each statement execute function events.take_turn();

insert into control.label_policies (model, kind)
select
    '*' as model,
    kind
from unnest(array[
    'rating', 'thumbs', 'click', 'dwell', 'purchase', 'conversion', 'correction',
    'label'
]) as kinds (kind)
on conflict (model, kind) do nothing;
