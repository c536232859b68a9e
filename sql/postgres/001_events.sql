-- The three topics as append-only tables, what broke the contract (`origin`: the message of Kafka
-- that it came in, if it did), and what was kept out.
-- grain: one row an event.  key: the event's id; a repeated id is counted once: the first stays.
-- lateness: any; a row is accepted however old its event_time is.
-- `ingested_at` is the engine's clock when the row came in. Rows of a batch under way are not there
-- yet: events.ingested_up_to() gives a moment up to which nothing will be added any more.

create schema if not exists events;
-- Histograms of panes are its `vector`s, which are added up in C.
create extension if not exists vector with schema public;

create table if not exists events.inference (
    request_id text primary key,
    event_time timestamptz not null,
    ingested_at timestamptz not null default clock_timestamp(),
    model text not null,
    model_version text not null,
    variant text not null,
    endpoint text,
    segment text,
    user_id text,
    session_id text,
    item_id text,
    features jsonb not null default '{}',
    input jsonb,
    output jsonb,
    prediction text,
    score double precision,
    propensity double precision,
    latency_ms double precision,
    error text,
    shadow_of text
);

create index if not exists inference_model_time
on events.inference (model, event_time);
create index if not exists inference_user
on events.inference (model, user_id, event_time) where user_id is not null;
create index if not exists inference_shadow_of
on events.inference (shadow_of) where shadow_of is not null;

create table if not exists events.feedback (
    feedback_id text primary key,
    request_id text not null,
    event_time timestamptz not null,
    ingested_at timestamptz not null default clock_timestamp(),
    kind text not null,
    value double precision,
    label text,
    rejected_request_id text,
    source text not null,
    user_id text,
    metadata jsonb not null default '{}'
);

create index if not exists feedback_request_id on events.feedback (request_id);
create index if not exists feedback_time on events.feedback (event_time);
create index if not exists feedback_preferred
on events.feedback (request_id) where rejected_request_id is not null;
create index if not exists feedback_rejected_request_id
on events.feedback (rejected_request_id) where rejected_request_id is not null;

create table if not exists events.model_events (
    event_id text primary key,
    event_time timestamptz not null,
    ingested_at timestamptz not null default clock_timestamp(),
    model text not null,
    model_version text not null,
    event text not null,
    traffic double precision,
    run_id text,
    trigger_id text,
    dataset_id text,
    parent_version text,
    artifact_uri text,
    metrics jsonb not null default '{}',
    reason text
);

create index if not exists model_events_model
on events.model_events (model, event_time);

create table if not exists events.rejected (
    rejected_id bigint generated always as identity primary key,
    ingested_at timestamptz not null default clock_timestamp(),
    topic text not null,
    field text not null,
    reason text not null,
    payload text not null,
    origin text unique
);

-- What came under an id that was stored before with other content, and was kept out; `differing`
-- names the columns that are not as they are stored.
-- grain: one content.  key: (topic, event_id, content_md5).
create table if not exists events.conflicts (
    topic text not null,
    event_id text not null,
    content_md5 text not null,
    differing text not null,
    payload text not null,
    times bigint not null default 1,
    ingested_at timestamptz not null default clock_timestamp(),
    last_ingested_at timestamptz not null default clock_timestamp(),
    primary key (topic, event_id, content_md5)
);

-- Locks are tables without rows, in a schema of which nobody but the owner may name anything: what
-- ingest waits for, a reader cannot hold. They are taken in modes that let pg_dump pass.
-- Autovacuum would take a lock of its own on them, and has nothing to do there.
create schema if not exists locks;
-- Batches under way hold it in share mode; who wants them all to have ended, in exclusive mode.
create table if not exists locks.batches () with (autovacuum_enabled = false);
-- The batch whose turn it is.
create table if not exists locks.turn () with (autovacuum_enabled = false);
-- The deployment whose turn it is to change a view.
create table if not exists locks.deployment () with (autovacuum_enabled = false);

-- Several batches may come in side by side, but one after the other goes on to the panes, so that a
-- join finds each pair once: the later one sees all of the earlier one.
drop function if exists events.one_at_a_time() cascade;

create or replace function events.begin_batch() returns trigger
language plpgsql as $$
begin
    if current_setting('transaction_isolation') != 'read committed' then
        raise exception 'events are ingested in read committed transactions, this one is %',
            current_setting('transaction_isolation') using errcode = 'feature_not_supported';
    end if;
    lock table locks.batches in share mode;
    return null;
end
$$;

create or replace function events.take_turn() returns trigger
language plpgsql as $$
begin
    lock table locks.turn in exclusive mode;
    return null;
end
$$;

-- Statement triggers fire in the order of their names: the turn comes before all panes.
create or replace trigger begin_batch before insert on events.inference
for each statement execute function events.begin_batch();
create or replace trigger begin_batch before insert on events.feedback
for each statement execute function events.begin_batch();
create or replace trigger begin_batch before insert on events.model_events
for each statement execute function events.begin_batch();
create or replace trigger a_turn after insert on events.inference
for each statement execute function events.take_turn();
create or replace trigger a_turn after insert on events.feedback
for each statement execute function events.take_turn();
create or replace trigger a_turn after insert on events.model_events
for each statement execute function events.take_turn();

-- A moment up to which all events are there: `ingested_at <= it` names the same rows for ever.
-- Waits for the batches under way; those that follow wait for the end of this transaction.
create or replace function events.ingested_up_to() returns timestamptz
language plpgsql as $$
begin
    lock table locks.batches in exclusive mode;
    return clock_timestamp();
end
$$;
