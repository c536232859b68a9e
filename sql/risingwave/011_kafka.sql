-- Positions in Kafka's topics.

-- Messages that were lost unread. Stays empty on RisingWave: a source does not report what was
-- dropped before it was read (docs/engines.md).
create view if not exists control.losses as
select
    null::varchar as topic,
    null::integer as partition,
    null::varchar as topic_id,
    null::bigint as first_offset,
    null::bigint as end_offset,
    null::varchar as reason,
    null::timestamptz as noticed_at
where false;

-- How far topics were read. What the brokers have is not known here.
-- grain: one partition of a topic.  key: (topic, partition).
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

-- What the brokers had when they were last asked.
-- grain: one partition of a topic.  key: (topic, partition); the last row stays.
create table if not exists control.topic_ends (
    topic varchar,
    partition integer,
    topic_id varchar,
    first_offset bigint,
    end_offset bigint,
    looked_at timestamptz,
    primary key (topic, partition)
);
