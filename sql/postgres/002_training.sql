-- What trainers write: claims of triggers, and training sets.

create schema if not exists control;

-- grain: one claimed trigger.  key: trigger_id, so a trigger is trained on once.
-- A claim whose heartbeat is older than the lease may be taken over (attempt + 1).
create table if not exists control.claims (
    trigger_id text primary key,
    model text not null,
    worker text not null,
    run_id text not null,
    attempt integer not null default 1,
    claimed_at timestamptz not null default clock_timestamp(),
    heartbeat_at timestamptz not null default clock_timestamp(),
    -- the run may learn from rows ingested up to this time
    known_at timestamptz not null,
    -- the model's clock at that time
    event_clock timestamptz,
    finished_at timestamptz
);

-- Triggers as trainers saw them: why each was due, and what held it back before.
-- grain: one obstacle of one trigger; '' is none.  key: (trigger_id, obstacle).
-- Times are the model's clock.
create table if not exists control.trigger_history (
    trigger_id text not null,
    obstacle text not null,
    model text not null,
    reason text not null,
    held_back_by text,
    first_seen_at timestamptz not null,
    last_seen_at timestamptz not null,
    primary key (trigger_id, obstacle)
);

-- How far each run is, as its trainer says every few seconds.
-- grain: one attempt at a run.  key: (run_id, attempt).
create table if not exists control.training_progress (
    run_id text not null,
    attempt integer not null,
    model text not null,
    trigger_id text not null,
    stage text not null,
    step bigint,
    steps bigint,
    loss double precision,
    examples_per_s double precision,
    eta_s double precision,
    started_at timestamptz not null,
    updated_at timestamptz not null,
    primary key (run_id, attempt)
);

-- Alerts that fired, as a trainer saw them.
-- grain: one alert.  key: (model, alert, subject, since).  Times are the model's clock.
create table if not exists control.alert_log (
    model text not null,
    alert text not null,
    subject text not null,
    since timestamptz not null,
    severity text not null,
    last_seen_at timestamptz not null,
    cleared_at timestamptz,
    primary key (model, alert, subject, since)
);

-- Versions that a gateway should serve and cannot load, as it last said.
-- grain: version in one role, of one gateway.  key: (gateway, model, model_version, variant).
create table if not exists control.load_failures (
    gateway text not null,
    model text not null,
    model_version text not null,
    variant text not null,
    error text not null,
    seen_at timestamptz not null,
    primary key (gateway, model, model_version, variant)
);

-- What reviewers do with predictions: claimed, labeled, skipped, and the last two taken back.
-- grain: one step of one claim.  key: (prediction_id, attempt, step); the first row stays, so one
-- reviewer has an attempt. prediction_id is a hash of model, request_id and item_id.
create table if not exists control.reviews (
    prediction_id text not null,
    attempt integer not null,
    step text not null,
    claim_id text not null,
    model text not null,
    request_id text not null,
    item_id text,
    reviewer text not null,
    -- whether a second reviewer is wanted
    is_doubled boolean not null,
    reviewed_at timestamptz not null,
    -- when another reviewer may claim it, if nothing came of this one
    expires_at timestamptz not null,
    primary key (prediction_id, attempt, step)
);
create index if not exists reviews_claim on control.reviews (claim_id);
create index if not exists reviews_prediction on control.reviews (model, request_id);

-- grain: one compiled training set.  key: dataset_id.
-- delta_version: the version of its model's Delta table that holds the rows.
create table if not exists control.datasets (
    dataset_id text primary key,
    model text not null,
    run_id text not null,
    known_at timestamptz not null,
    examples bigint not null,
    content_sha256 text not null,
    query jsonb not null,
    created_at timestamptz not null default clock_timestamp(),
    delta_version bigint
);

-- Bring a table of an earlier version to this one.
alter table control.datasets add column if not exists delta_version bigint;

-- What was said of the predictions of each segment, as training sets count it, by when it was
-- heard (trainer/segment_labels.py). Each claim adds what came in since the one before. It is made
-- of the events: without a row it is made anew.
-- grain: one segment and claim.  key: (model, policies_md5, heard_until, segment).
create table if not exists control.segment_labels (
    model text not null,
    policies_md5 text not null,
    heard_until timestamptz not null,
    segment text not null,
    facts bytea not null,
    primary key (model, policies_md5, heard_until, segment)
);

create or replace function control.forget_segment_labels() returns trigger
language plpgsql as $$
begin
    delete from control.segment_labels;
    return null;
end
$$;

-- Events that begin anew have another history.
create or replace trigger forget_segment_labels after truncate on events.inference
for each statement execute function control.forget_segment_labels();
create or replace trigger forget_segment_labels after truncate on events.feedback
for each statement execute function control.forget_segment_labels();
