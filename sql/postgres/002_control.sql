-- What people and trainers set, beside the events.

create schema if not exists control;

-- grain: one claim of one trigger.  key: trigger_id, so that a trigger trains once.
-- A claim whose heartbeat is older than the lease may be taken over (attempt + 1).
create table if not exists control.claims (
    trigger_id text primary key,
    model text not null,
    worker text not null,
    run_id text not null,
    attempt integer not null default 1,
    claimed_at timestamptz not null default clock_timestamp(),
    heartbeat_at timestamptz not null default clock_timestamp(),
    -- rows ingested up to this moment are what the run may learn from
    known_at timestamptz not null,
    -- the model's own event time at that moment
    event_clock timestamptz,
    finished_at timestamptz
);

-- grain: one compiled training set.  key: dataset_id.
create table if not exists control.datasets (
    dataset_id text primary key,
    model text not null,
    run_id text not null,
    known_at timestamptz not null,
    examples bigint not null,
    content_sha256 text not null,
    query jsonb not null,
    created_at timestamptz not null default clock_timestamp()
);

-- grain: one thing that was deployed (the SQL files, the dbt project).  key: name.
create table if not exists control.deployed (
    name text primary key,
    sha256 text not null,
    deployed_at timestamptz not null default clock_timestamp()
);

-- grain: how far one partition of a topic of Kafka was read.  key: (topic, partition).
-- Moved on in the transaction that stores its messages, so that each of them counts once.
create table if not exists control.consumed (
    topic text not null,
    partition integer not null,
    next_offset bigint not null,
    -- what the brokers had when it was looked at
    end_offset bigint,
    consumed_at timestamptz not null default clock_timestamp(),
    -- the topic's own id, as Kafka's tools write it; a topic made anew has another ('': not known)
    topic_id text not null default '',
    -- messages from this one on have that id in the names that are made from their place
    named_from bigint not null default 0,
    primary key (topic, partition)
);

alter table control.consumed
add column if not exists topic_id text not null default '',
add column if not exists named_from bigint not null default 0;

-- grain: a row of messages that nobody can read any more.
-- key: (topic, partition, topic_id, first_offset).
create table if not exists control.losses (
    topic text not null,
    partition integer not null,
    topic_id text not null,
    first_offset bigint not null,
    -- one past the last of them
    end_offset bigint not null,
    -- dropped (by retention), or made anew (deleted with their topic)
    reason text not null,
    noticed_at timestamptz not null default clock_timestamp(),
    primary key (topic, partition, topic_id, first_offset)
);
