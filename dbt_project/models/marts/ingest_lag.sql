-- How far Kafka is ahead of the database.
-- grain: partition of a topic that was read.  key: (topic, partition).
-- lateness: none; `end_offset` is what the brokers had when it was last looked at, once a second.
select
    topic,
    partition,
    next_offset,
    end_offset,
    case when end_offset is not null
        then greatest(end_offset - next_offset, 0)
    end as messages_behind,
    consumed_at
from {{ source('control', 'consumed') }}
