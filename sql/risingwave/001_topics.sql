-- The topics of Kafka: the bytes, what they hold, their place, and when they were sent and came in.
-- grain: one message.  key: (message_partition, message_offset) of its topic.
-- lateness: any; a source reads its topic from the beginning, as far back as the brokers hold it.
--   raw      the text; null where it is no UTF-8
--   is_json  whether that is JSON
--   payload  the object, without NUL characters (escaped: behind an even number of backslashes)
--   moment   date, time, fraction, hours and minutes of the offset of its event_time, as RFC 3339
--            has them, up to microseconds
-- Bytes, so that what is no JSON can be told from what is missing. An expression that cannot be
-- computed is null. It is computed once here, rather than wherever a view says it again; a
-- generated column can't read another one.
-- A source stores nothing: 004_ingest.sql makes what reads it.

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
