-- What people and trainers set, beside the events. A row takes the place of the one with its key.

-- grain: one policy that exists.  key: policy.
-- kind: number, interval, text, or all that it may be (on|off).
create table if not exists control.policy_kinds (
    policy varchar primary key,
    kind varchar,
    default_value varchar,
    description varchar
);

-- grain: one threshold of one model.  key: (model, policy).
-- model '*' holds what holds for all; a row with the model's own name wins over it.
create table if not exists control.policies (
    model varchar,
    policy varchar,
    value varchar,
    updated_at timestamptz default now(),
    primary key (model, policy)
);

-- grain: how one kind of feedback on one model becomes a label.  key: (model, kind).
-- model '*' holds what holds for all; a row with the model's own name wins over it.
create table if not exists control.label_policies (
    model varchar,
    kind varchar,
    wins varchar,
    priority integer,
    weight double precision,
    primary key (model, kind)
);

-- grain: one try of one trigger.  key: (trigger_id, attempt); the first row of a key stays, so that
-- one worker has it. A claim whose heartbeat is older than the lease may be taken over (attempt + 1).
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

-- grain: one try of one trigger.  key: (trigger_id, attempt).
create table if not exists control.heartbeats (
    trigger_id varchar,
    attempt integer,
    heartbeat_at timestamptz,
    finished_at timestamptz,
    primary key (trigger_id, attempt)
);

-- grain: one claim of one trigger, which is its latest attempt.  key: trigger_id.
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

-- grain: one trigger that was due, as a trainer saw it first.  key: trigger_id; the first row stays.
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

-- grain: one compiled training set.  key: dataset_id.
create table if not exists control.datasets (
    dataset_id varchar primary key,
    model varchar,
    run_id varchar,
    known_at timestamptz,
    examples bigint,
    content_sha256 varchar,
    query jsonb,
    created_at timestamptz default now()
);

-- grain: one thing that was deployed (the SQL files, the dbt project).  key: name.
create table if not exists control.deployed (
    name varchar primary key,
    sha256 varchar,
    deployed_at timestamptz default now()
);

-- Stays empty here: a source does not say what was dropped before it was read (docs/engines.md).
create table if not exists control.losses (
    topic varchar,
    partition integer,
    topic_id varchar,
    first_offset bigint,
    end_offset bigint,
    reason varchar,
    noticed_at timestamptz,
    primary key (topic, partition, topic_id, first_offset)
) append only on conflict do nothing;

-- grain: how far one partition of a topic of Kafka was read.  key: (topic, partition).
-- What the brokers have is not known here.
create materialized view if not exists control.consumed as
with messages as (
    select 'inference' as contract_topic, message_partition, message_offset, ingested_at
    from events.inference_messages
    union all
    select 'feedback' as contract_topic, message_partition, message_offset, ingested_at
    from events.feedback_messages
    union all
    select 'model_events' as contract_topic, message_partition, message_offset, ingested_at
    from events.model_events_messages
    union all
    select 'rejected' as contract_topic, message_partition, message_offset, ingested_at
    from events.rejected_messages
)

select
    '${prefix}' || contract_topic as topic,
    message_partition::integer as partition,
    max(message_offset::bigint) + 1 as next_offset,
    null::bigint as end_offset,
    '' as topic_id,
    max(ingested_at) as consumed_at
from messages
group by contract_topic, message_partition;
