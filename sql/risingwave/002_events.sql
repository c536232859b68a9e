-- The three topics as append-only tables, and the events that broke the contract (`origin` names
-- the message of Kafka).
-- grain: one event.  key: the event's id, of an inference (request_id, model, item_id), where
-- item_key stands for item_id, as no column of a key is null; what is repeated counts once, the
-- first stays.
-- lateness: any; a row is accepted however old its event_time is. `ingested_at` is the engine's
-- clock when the message came in. Rows appear with a checkpoint, in all tables together.

create table if not exists events.inference (
    request_id varchar,
    event_time timestamptz,
    ingested_at timestamptz,
    model varchar,
    model_version varchar,
    variant varchar,
    endpoint varchar,
    segment varchar,
    user_id varchar,
    session_id varchar,
    item_id varchar,
    item_key varchar,
    features jsonb,
    feature_ages jsonb,
    input jsonb,
    output jsonb,
    prediction varchar,
    score double precision,
    probabilities jsonb,
    propensity double precision,
    target_propensity double precision,
    position integer,
    latency_ms double precision,
    error varchar,
    shadow_of varchar,
    primary key (request_id, model, item_key)
) append only on conflict do nothing;

create table if not exists events.feedback (
    feedback_id varchar primary key,
    request_id varchar,
    model varchar,
    item_id varchar,
    event_time timestamptz,
    ingested_at timestamptz,
    kind varchar,
    value double precision,
    label varchar,
    rejected_request_id varchar,
    retracts varchar,
    source varchar,
    user_id varchar,
    metadata jsonb
) append only on conflict do nothing;

create table if not exists events.model_events (
    event_id varchar primary key,
    event_time timestamptz,
    ingested_at timestamptz,
    model varchar,
    model_version varchar,
    event varchar,
    traffic double precision,
    run_id varchar,
    trigger_id varchar,
    dataset_id varchar,
    parent_version varchar,
    artifact_uri varchar,
    metrics jsonb,
    reason varchar
) append only on conflict do nothing;

-- No event whose ingested_at is before complete_until can still appear: what is visible is a
-- checkpoint, which has all messages of its epochs.
-- grain: the one row.
create materialized view if not exists events.ingest_horizon as
select max(ingested_at) + interval '00:00:00.000001' as complete_until
from (
    select ingested_at from events.inference
    union all
    select ingested_at from events.feedback
    union all
    select ingested_at from events.model_events
) as stored;

-- Stays empty on RisingWave: each message would have to be compared with all others
-- (docs/engines.md).
create view if not exists events.conflicts as
select
    null::varchar as topic,
    null::varchar as event_id,
    null::varchar as content_md5,
    null::varchar as differing,
    null::varchar as payload,
    null::bigint as times,
    null::timestamptz as ingested_at,
    null::timestamptz as last_ingested_at
where false;

-- Stay empty on RisingWave: its vector indexes are of what is only added to, and vectors have a
-- retention (docs/engines.md).
create view if not exists events.input_vectors as
select
    null::varchar as model,
    null::varchar as request_id,
    null::varchar as base,
    null::timestamptz as event_time,
    null::timestamptz as embedded_at,
    null::real[] as embedding
where false;

create view if not exists events.input_vector_hours as
select
    null::varchar as model,
    null::varchar as base,
    null::timestamptz as pane_start,
    null::bigint as vectors,
    null::double precision[] as sums,
    null::double precision[] as squares
where false;

-- `rejected_id` is derived from the message's position: reading it again gives the same number.
create table if not exists events.rejected (
    rejected_id bigint primary key,
    ingested_at timestamptz,
    topic varchar,
    field varchar,
    reason varchar,
    payload varchar,
    origin varchar
) append only on conflict do nothing;
