-- Positions in Kafka's topics.

-- How far topics were read. Updated in the transaction that stores the messages, so each counts
-- once.
-- grain: one partition of a topic.  key: (topic, partition).
create table if not exists control.consumed (
    topic text not null,
    partition integer not null,
    next_offset bigint not null,
    -- one past the newest message on the brokers at that time
    end_offset bigint,
    consumed_at timestamptz not null default clock_timestamp(),
    -- the topic's id, as Kafka's tools write it; a recreated topic has another ('': not known)
    topic_id text not null default '',
    -- from this offset on, ids derived from a message's position contain the topic's id
    named_from bigint not null default 0,
    primary key (topic, partition)
);

alter table control.consumed
add column if not exists topic_id text not null default '',
add column if not exists named_from bigint not null default 0;

-- Messages that were lost unread.
-- grain: one range of offsets.  key: (topic, partition, topic_id, first_offset).
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

-- What the brokers had when they were last asked.
-- grain: one partition of a topic.  key: (topic, partition).
create table if not exists control.topic_ends (
    topic text not null,
    partition integer not null,
    -- as Kafka's tools write it; a recreated topic has another ('': not known)
    topic_id text not null default '',
    -- the oldest message, and one past the newest
    first_offset bigint not null,
    end_offset bigint not null,
    looked_at timestamptz not null,
    primary key (topic, partition)
);
