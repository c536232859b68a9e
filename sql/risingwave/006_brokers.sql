-- grain: what the brokers had of one partition of a topic when they were asked.
-- key: (topic, partition). A row takes the place of the one with its key.
create table if not exists control.topic_ends (
    topic varchar,
    partition integer,
    topic_id varchar,
    first_offset bigint,
    end_offset bigint,
    looked_at timestamptz,
    primary key (topic, partition)
);
