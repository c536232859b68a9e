-- The topics of Kafka as sources: the bytes of each message, what they hold, their position, and
-- when the message was sent and came in.
-- grain: one message.  key: (message_partition, message_offset) of its topic.
-- lateness: any; a source reads its topic from the beginning, as far back as the brokers hold it.
--   raw      the text; null where it is not UTF-8
--   is_json  whether that is JSON
--   payload  the object; null where it has NUL characters (an escape after an even number of
--            backslashes)
--   moment   the parts of event_time by RFC 3339: date, time, fraction up to microseconds, hours and
--            minutes of the offset
-- Sources are of bytes, so that a message that is not JSON differs from a missing one. An
-- expression that fails is null. These columns are computed once here and not in each view that
-- reads them; a generated column cannot read another one. A source stores nothing; the sinks of
-- 007_ingest.sql read it.

create schema if not exists events;

create schema if not exists control;

create source if not exists events.inference_messages (
    message bytea,
    raw varchar as convert_from(message, 'utf8'),
    is_json boolean as convert_from(message, 'utf8')::jsonb is not null,
    payload jsonb as case
        when
            jsonb_typeof(convert_from(message, 'utf8')::jsonb) = 'object'
            and not convert_from(message, 'utf8') ~ '(^|[^\\])(\\\\)*\\u0000'
            then convert_from(message, 'utf8')::jsonb
    end,
    moment varchar[] as regexp_match(
        convert_from(message, 'utf8')::jsonb ->> 'event_time',
        '^([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]((?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9])(?:(\.[0-9]{1,6})[0-9]*)?(?:[Zz]|([+-](?:[01][0-9]|2[0-3])):?([0-5][0-9]))?$$'
    ),
    ingested_at timestamptz as proctime()
)
include partition as message_partition
include offset as message_offset
include timestamp as sent_at
with (
    ${kafka},
    topic = '${prefix}inference',
    scan.startup.mode = 'earliest'
) format plain encode bytes;

create source if not exists events.feedback_messages (
    message bytea,
    raw varchar as convert_from(message, 'utf8'),
    is_json boolean as convert_from(message, 'utf8')::jsonb is not null,
    payload jsonb as case
        when
            jsonb_typeof(convert_from(message, 'utf8')::jsonb) = 'object'
            and not convert_from(message, 'utf8') ~ '(^|[^\\])(\\\\)*\\u0000'
            then convert_from(message, 'utf8')::jsonb
    end,
    moment varchar[] as regexp_match(
        convert_from(message, 'utf8')::jsonb ->> 'event_time',
        '^([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]((?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9])(?:(\.[0-9]{1,6})[0-9]*)?(?:[Zz]|([+-](?:[01][0-9]|2[0-3])):?([0-5][0-9]))?$$'
    ),
    ingested_at timestamptz as proctime()
)
include partition as message_partition
include offset as message_offset
include timestamp as sent_at
with (
    ${kafka},
    topic = '${prefix}feedback',
    scan.startup.mode = 'earliest'
) format plain encode bytes;

create source if not exists events.model_events_messages (
    message bytea,
    raw varchar as convert_from(message, 'utf8'),
    is_json boolean as convert_from(message, 'utf8')::jsonb is not null,
    payload jsonb as case
        when
            jsonb_typeof(convert_from(message, 'utf8')::jsonb) = 'object'
            and not convert_from(message, 'utf8') ~ '(^|[^\\])(\\\\)*\\u0000'
            then convert_from(message, 'utf8')::jsonb
    end,
    moment varchar[] as regexp_match(
        convert_from(message, 'utf8')::jsonb ->> 'event_time',
        '^([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]((?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9])(?:(\.[0-9]{1,6})[0-9]*)?(?:[Zz]|([+-](?:[01][0-9]|2[0-3])):?([0-5][0-9]))?$$'
    ),
    ingested_at timestamptz as proctime()
)
include partition as message_partition
include offset as message_offset
include timestamp as sent_at
with (
    ${kafka},
    topic = '${prefix}model_events',
    scan.startup.mode = 'earliest'
) format plain encode bytes;

create source if not exists events.rejected_messages (
    message bytea,
    raw varchar as convert_from(message, 'utf8'),
    is_json boolean as convert_from(message, 'utf8')::jsonb is not null,
    payload jsonb as case
        when
            jsonb_typeof(convert_from(message, 'utf8')::jsonb) = 'object'
            and not convert_from(message, 'utf8') ~ '(^|[^\\])(\\\\)*\\u0000'
            then convert_from(message, 'utf8')::jsonb
    end,
    ingested_at timestamptz as proctime()
)
include partition as message_partition
include offset as message_offset
include timestamp as sent_at
with (
    ${kafka},
    topic = '${prefix}rejected',
    scan.startup.mode = 'earliest'
) format plain encode bytes;
