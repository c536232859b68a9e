-- The three topics as append-only tables, the events that broke the contract (`origin` names the
-- message of Kafka, if there was one), and conflicting events.
-- grain: one event.  key: the event's id; an id that is repeated counts once, the first stays.
-- lateness: any; a row is accepted however old its event_time is.
-- `ingested_at` is the engine's clock when the row came in. Rows of an open batch are not visible
-- yet: events.ingested_up_to() gives a time up to which no more rows will appear.

create schema if not exists events;
-- pgvector: histograms of panes are its `vector`s, which are added in C.
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
    metadata jsonb not null default '{}',
    retracts text
);

alter table events.feedback add column if not exists retracts text;

create index if not exists feedback_request_id on events.feedback (request_id);
create index if not exists feedback_time on events.feedback (event_time);
create index if not exists feedback_preferred
on events.feedback (request_id) where rejected_request_id is not null;
create index if not exists feedback_rejected_request_id
on events.feedback (rejected_request_id) where rejected_request_id is not null;
create index if not exists feedback_compared
on events.feedback (least(request_id, rejected_request_id))
where rejected_request_id is not null;
create index if not exists feedback_retracts
on events.feedback (retracts) where retracts is not null;

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

-- Events that were refused because their id is stored with other content; `differing` names the
-- columns that differ.
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

-- Locks are tables without rows, in a schema that only the owner may use, so a reader cannot hold
-- what ingest waits for. The modes in which they are locked do not block pg_dump. Autovacuum is off
-- because it would lock them for nothing.
create schema if not exists locks;
-- Every open batch holds it in share mode; exclusive mode waits for all of them.
create table if not exists locks.batches () with (autovacuum_enabled = false);
-- Held by the batch that updates the panes.
create table if not exists locks.turn () with (autovacuum_enabled = false);
-- Held by the deployment that changes a view.
create table if not exists locks.deployment () with (autovacuum_enabled = false);

-- Batches are inserted in parallel but update the panes one at a time, so that a join finds each
-- pair once: the later batch sees everything of the earlier one.
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

-- Statement triggers fire in the order of their names: a_turn comes before those of the panes.
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

-- A time up to which all events are there: `ingested_at <=` it selects the same rows for ever.
-- Waits for open batches; later ones wait for the end of this transaction.
create or replace function events.ingested_up_to() returns timestamptz
language plpgsql as $$
begin
    lock table locks.batches in exclusive mode;
    return clock_timestamp();
end
$$;
