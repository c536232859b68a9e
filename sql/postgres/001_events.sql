-- The three topics as append-only tables, the events that broke the contract (`origin` names the
-- message of Kafka, if there was one), and conflicting events.
-- grain: one event.  key: the event's id, of an inference (request_id, model, item_id); what is
-- repeated counts once, the first stays.
-- lateness: any; a row is accepted however old its event_time is.
-- `ingested_at` is the engine's clock when the row came in. Rows of an open batch are not visible
-- yet: events.ingested_up_to() gives a time up to which no more rows will appear, and
-- events.ingest_horizon holds one that readers may ask for.

create schema if not exists events;
-- pgvector: histograms of panes are its `vector`s, which are added in C.
create extension if not exists vector with schema public;

create table if not exists events.inference (
    request_id text not null,
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
    feature_ages jsonb,
    input jsonb,
    output jsonb,
    prediction text,
    score double precision,
    probabilities jsonb,
    propensity double precision,
    target_propensity double precision,
    position integer,
    latency_ms double precision,
    error text,
    shadow_of text
);

-- Bring a table of an earlier version to this one.
alter table events.inference add column if not exists probabilities jsonb;
alter table events.inference
add column if not exists target_propensity double precision;
alter table events.inference add column if not exists position integer;
alter table events.inference add column if not exists feature_ages jsonb;
alter table events.inference drop constraint if exists inference_pkey;

create unique index if not exists inference_key
on events.inference (request_id, model, item_id) nulls not distinct;
create index if not exists inference_model_time
on events.inference (model, event_time);
create index if not exists inference_user
on events.inference (model, user_id, event_time) where user_id is not null;
create index if not exists inference_session
on events.inference (model, session_id, event_time) where session_id is not null;
create index if not exists inference_shadow_of
on events.inference (shadow_of) where shadow_of is not null;
-- What came in lately, in a few pages however large the table is.
create index if not exists inference_ingested_at
on events.inference using brin (ingested_at) with (autosummarize = on);

create table if not exists events.feedback (
    feedback_id text primary key,
    request_id text not null,
    model text,
    item_id text,
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
alter table events.feedback add column if not exists model text;
alter table events.feedback add column if not exists item_id text;

create index if not exists feedback_request_id on events.feedback (request_id);
create index if not exists feedback_time on events.feedback (event_time);
create index if not exists feedback_preferred
on events.feedback (request_id) where rejected_request_id is not null;
create index if not exists feedback_rejected_request_id
on events.feedback (rejected_request_id) where rejected_request_id is not null;
create index if not exists feedback_compared
on events.feedback (least(request_id, rejected_request_id))
where rejected_request_id is not null;
create index if not exists feedback_human
on events.feedback (request_id) where source = 'human' and kind = 'label';
create index if not exists feedback_retracts
on events.feedback (retracts) where retracts is not null;
create index if not exists feedback_ingested_at
on events.feedback using brin (ingested_at) with (autosummarize = on);

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
    perform pg_current_xact_id();
    return null;
end
$$;

-- What the newest batch saw in its turn: which batches beside it were open, and since when.
-- grain: the one row.
create table if not exists events.last_turn (
    one_row boolean primary key default true check (one_row),
    seen_at timestamptz not null,
    open_batches xid8[] not null,
    -- when the oldest of them began
    open_since timestamptz not null
) with (fillfactor = 10);

-- No event whose ingested_at is before complete_until can still appear, beside those that the same
-- snapshot shows. It waits for nobody, and once the open batches have ended it is when they were
-- seen.
-- grain: the one row.
create or replace view events.ingest_horizon as
select
    case
        when exists (
            select from unnest(open_batches) as batch
            where not pg_visible_in_snapshot(batch, pg_current_snapshot())
        ) then open_since
        else seen_at
    end as complete_until
from events.last_turn;

-- Writes the row above. A batch that has no transaction id yet (begin_batch) has later rows.
create or replace function events.note_turn() returns void
language plpgsql as $$
declare
    moment timestamptz := clock_timestamp();
    newest bigint := pg_current_xact_id()::text::bigint;
    complete_until timestamptz := (select horizon.complete_until from events.ingest_horizon as horizon);
begin
    -- Else the first look at sessions is kept to the end of the transaction.
    perform pg_stat_clear_snapshot();
    insert into events.last_turn as stored (seen_at, open_batches, open_since)
    with found as materialized (
        select locktype, virtualtransaction, pid, transactionid::text::bigint as id
        from pg_locks
        where granted and (
            (locktype = 'transactionid' and mode = 'ExclusiveLock')
            or (
                locktype = 'relation' and mode = 'ShareLock'
                and relation = 'locks.batches'::regclass
                and database = (select oid from pg_database where datname = current_database())
            )
        )
    ),

    batches as (
        select
            -- ids of 32 bits, as ids of 64 bits that are about as high as the own one
            newest + ((transactions.id - newest) << 32 >> 32) as id,
            -- unknown where the session is another role's, or a prepared transaction
            sessions.xact_start as began_at
        from found as held
        inner join found as transactions using (virtualtransaction)
        left join pg_stat_activity as sessions on held.pid = sessions.pid
        where
            held.locktype = 'relation'
            and transactions.locktype = 'transactionid'
            and held.pid is distinct from pg_backend_pid()
    )

    select
        moment,
        coalesce(array_agg(id::text::xid8), '{}'),
        greatest(
            complete_until,
            case
                when count(*) = count(began_at) then least(moment, min(began_at))
                else to_timestamp(0)
            end
        )
    from batches
    on conflict (one_row) do update set
        seen_at = excluded.seen_at,
        open_batches = excluded.open_batches,
        open_since = excluded.open_since;
end
$$;

select events.note_turn()
where not exists (select from events.last_turn);

create or replace function events.take_turn() returns trigger
language plpgsql as $$
begin
    lock table locks.turn in exclusive mode;
    perform events.note_turn();
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
