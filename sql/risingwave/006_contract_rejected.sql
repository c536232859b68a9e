-- Dead letters: events that were checked and refused before they came here. A message that is no
-- dead letter is rejected itself.
-- grain: one message.  key: origin.  lateness: any.

create view if not exists events.rejected_read as
with letters as (
    select
        message_partition,
        message_offset,
        ingested_at,
        is_json,
        payload,
        '${prefix}rejected/' || message_partition || '/' || message_offset as origin,
        coalesce(raw, encode(message, 'escape'), '') as raw,
        jsonb_typeof(payload -> 'topic') = 'string'
        and jsonb_typeof(payload -> 'field') = 'string'
        and jsonb_typeof(payload -> 'reason') = 'string'
        and jsonb_typeof(payload -> 'payload') = 'string' as is_one
    from events.rejected_messages
)

select
    message_offset::bigint * 100000 + message_partition::bigint * 10 + 3 as rejected_id,
    ingested_at,
    case when is_one then payload ->> 'topic' else 'rejected' end as topic,
    case when is_one then payload ->> 'field' else '' end as field,
    case
        when is_one then payload ->> 'reason'
        when is_json
            then
                'event: must be an object with the texts topic, field, reason, payload, got '
                || left(raw, 80)
        else 'event: must be JSON, got ' || coalesce(nullif(left(raw, 80), ''), '''''')
    end as reason,
    case when is_one then payload ->> 'payload' else to_jsonb(raw)::text end as payload,
    origin
from letters;
