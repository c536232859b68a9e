-- Messages of Kafka that were never stored and cannot be read any more.
-- grain: row of messages that was lost.  key: (topic, partition, topic_id, first_offset).
-- lateness: none; noticed when ingest goes on.
select
    -- ids
    topic,
    partition,
    topic_id,
    first_offset,
    -- how many
    end_offset,
    end_offset - first_offset as messages,
    reason,
    -- times
    noticed_at
from {{ source('control', 'losses') }}
