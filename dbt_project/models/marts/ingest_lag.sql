-- How far Kafka is ahead of the database.
-- grain: partition of a topic that the brokers have, or that was read.  key: (topic, partition).
-- lateness: none; the gateway and ingest ask the brokers every two seconds. What was told longer
-- than 15 seconds ago is no number of messages any more.
with told as (
    select
        topic,
        partition,
        topic_id,
        first_offset,
        end_offset
    from {{ source('control', 'topic_ends') }}
    where looked_at > now() - interval '15 seconds'
)

select
    coalesce(ends.topic, consumed.topic) as topic,
    coalesce(ends.partition, consumed.partition) as partition,
    consumed.next_offset,
    ends.end_offset,
    case
        -- never read, or read when another topic had the name
        when
            consumed.next_offset is null
            or (consumed.topic_id != told.topic_id and consumed.topic_id != '')
            then told.end_offset - told.first_offset
        when told.end_offset >= consumed.next_offset
            then told.end_offset - greatest(consumed.next_offset, told.first_offset)
        -- read on since the brokers were asked
        when told.end_offset < consumed.next_offset then 0
    end as messages_behind,
    consumed.consumed_at,
    ends.looked_at
from {{ source('control', 'topic_ends') }} as ends
full outer join {{ source('control', 'consumed') }} as consumed
    on
        ends.topic = consumed.topic
        and ends.partition = consumed.partition
left join told
    on
        ends.topic = told.topic
        and ends.partition = told.partition
