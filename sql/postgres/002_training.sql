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
