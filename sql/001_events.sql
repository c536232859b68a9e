-- The three topics as append-only tables, and what broke the contract.
-- grain: one row an event.  key: the event's id; a repeated id is counted once.
-- lateness: any; a row is accepted however old its event_time is.
-- `ingested_at` is the engine's clock, read under the ingest lock: it never runs backwards
-- from one batch to the next, so "ingested up to" names the same rows for ever.

create schema if not exists events;

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
    error text
);

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
    payload text not null
);
