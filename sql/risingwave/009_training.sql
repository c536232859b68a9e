-- What trainers write: claims of triggers, and training sets.

-- grain: one attempt at one trigger.  key: (trigger_id, attempt). The first row of a key stays, so one
-- worker has it. A claim whose heartbeat is older than the lease may be taken over (attempt + 1).
create table if not exists control.attempts (
    trigger_id varchar,
    attempt integer,
    model varchar,
    worker varchar,
    run_id varchar,
    claimed_at timestamptz,
    known_at timestamptz,
    event_clock timestamptz,
    primary key (trigger_id, attempt)
) append only on conflict do nothing;

-- grain: one attempt at one trigger.  key: (trigger_id, attempt); the last row stays.
create table if not exists control.heartbeats (
    trigger_id varchar,
    attempt integer,
    heartbeat_at timestamptz,
    finished_at timestamptz,
    primary key (trigger_id, attempt)
);

-- grain: one claimed trigger, with its latest attempt.  key: trigger_id.
create view if not exists control.claims as
with latest as (
    select distinct on (trigger_id)
        trigger_id,
        model,
        worker,
        run_id,
        attempt,
        claimed_at,
        known_at,
        event_clock
    from control.attempts
    order by trigger_id, attempt desc
)

select
    latest.trigger_id,
    latest.model,
    latest.worker,
    latest.run_id,
    latest.attempt,
    latest.claimed_at,
    coalesce(heartbeats.heartbeat_at, latest.claimed_at) as heartbeat_at,
    latest.known_at,
    latest.event_clock,
    heartbeats.finished_at
from latest
left join control.heartbeats as heartbeats
    on
        latest.trigger_id = heartbeats.trigger_id
        and latest.attempt = heartbeats.attempt;

-- grain: one trigger that became due, as a trainer first saw it.  key: trigger_id; the first row stays.
create table if not exists control.due_triggers (
    trigger_id varchar primary key,
    model varchar,
    model_version varchar,
    reason varchar,
    new_labels bigint,
    examples bigint,
    first_new_label_at timestamptz,
    seen_at timestamptz default now()
) append only on conflict do nothing;

-- Triggers as trainers saw them: why each was due, and what held it back before.
-- grain: one obstacle of one trigger; '' is none.  key: (trigger_id, obstacle); the last row stays.
-- Times are the model's clock.
create table if not exists control.trigger_history (
    trigger_id varchar,
    obstacle varchar,
    model varchar,
    reason varchar,
    held_back_by varchar,
    first_seen_at timestamptz,
    last_seen_at timestamptz,
    primary key (trigger_id, obstacle)
);

-- How far each run is, as its trainer says every few seconds.
-- grain: one attempt at a run.  key: (run_id, attempt); the last row stays.
create table if not exists control.training_progress (
    run_id varchar,
    attempt integer,
    model varchar,
    trigger_id varchar,
    stage varchar,
    step bigint,
    steps bigint,
    loss double precision,
    examples_per_s double precision,
    eta_s double precision,
    started_at timestamptz,
    updated_at timestamptz,
    primary key (run_id, attempt)
);

-- Alerts that fired, as a trainer saw them.
-- grain: one alert.  key: (model, alert, subject, since); the last row stays. Times are the model's
-- clock.
create table if not exists control.alert_log (
    model varchar,
    alert varchar,
    subject varchar,
    since timestamptz,
    severity varchar,
    last_seen_at timestamptz,
    cleared_at timestamptz,
    primary key (model, alert, subject, since)
);

-- Versions that a gateway should serve and cannot load, as it last said.
-- grain: version in one role, of one gateway.
-- key: (gateway, model, model_version, variant); the last row stays.
create table if not exists control.load_failures (
    gateway varchar,
    model varchar,
    model_version varchar,
    variant varchar,
    error varchar,
    seen_at timestamptz,
    primary key (gateway, model, model_version, variant)
);

-- What reviewers do with predictions: claimed, labeled, skipped, and the last two taken back.
-- grain: one step of one claim.  key: (prediction_id, attempt, step); the first row stays, so one
-- reviewer has an attempt. prediction_id is a hash of model, request_id and item_id.
create table if not exists control.reviews (
    prediction_id varchar,
    attempt integer,
    step varchar,
    claim_id varchar,
    model varchar,
    request_id varchar,
    item_id varchar,
    reviewer varchar,
    is_doubled boolean,
    reviewed_at timestamptz,
    expires_at timestamptz,
    primary key (prediction_id, attempt, step)
) append only on conflict do nothing;

-- grain: one compiled training set.  key: dataset_id; the last row stays.
-- delta_version: the version of its model's Delta table that holds the rows.
create table if not exists control.datasets (
    dataset_id varchar primary key,
    model varchar,
    run_id varchar,
    known_at timestamptz,
    examples bigint,
    content_sha256 varchar,
    query jsonb,
    created_at timestamptz default now(),
    delta_version bigint
);
