-- grain: what the brokers had of one partition of a topic when they were asked.
-- key: (topic, partition).
create table if not exists control.topic_ends (
    topic text not null,
    partition integer not null,
    -- as Kafka's tools write it; a topic made anew has another ('': not known)
    topic_id text not null default '',
    -- the oldest message that is kept, and one past the newest
    first_offset bigint not null,
    end_offset bigint not null,
    looked_at timestamptz not null,
    primary key (topic, partition)
);
