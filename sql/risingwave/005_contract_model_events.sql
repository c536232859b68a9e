-- The contract of model events (headrace/events/contract.py) in SQL: what each message of the topic
-- says, and what is wrong with it. Columns are explained in 003_contract_inference.sql.
-- grain: one message.  key: origin.
-- lateness: any; event_time is at most five minutes ahead of when the message came in, and not
-- before 1970.

create view if not exists events.model_events_read as
with fields as (
    select
        message,
        message_partition,
        message_offset,
        sent_at,
        ingested_at,
        raw,
        is_json,
        payload,
        '${prefix}model_events/' || message_partition || '/' || message_offset as origin,
        payload - array[
            'model', 'model_version', 'event', 'event_id', 'event_time', 'traffic',
            'run_id', 'trigger_id', 'dataset_id', 'parent_version', 'artifact_uri',
            'metrics', 'reason'
        ]::varchar[] as others,
        -- what counts as missing
        coalesce((payload -> 'event_id')::text, 'null') in (
            'null', '""', 'false', '0', '0.0', '-0', '-0.0', '[]', '{}'
        ) as has_no_id,
        (
            moment[1] || ' ' || moment[2] || coalesce(moment[3], '')
            || coalesce(moment[4] || ':' || moment[5], '+00:00')
        )::timestamptz as event_time,
        case
            when jsonb_typeof(payload -> 'traffic') = 'number'
                then (payload ->> 'traffic')::double precision
        end as traffic,
        case
            when jsonb_typeof(payload -> 'metrics') = 'object' then payload -> 'metrics'
            else '{}'::jsonb
        end as metrics
    from events.model_events_messages
),

checked as (
    select
        *,
        case
            when not is_json then array['', 'JSON']
            when payload is null then array['', 'an object, its texts without NUL characters']
            when others::text != '{}'
                then array[
                    jsonb_path_query_first(others, 'strict $$.keyvalue().key') #>> '{}'::varchar[],
                    'a known field'
                ]
            when
                coalesce((payload -> 'model')::text, 'null') in ('null', '""')
                then array['model', 'given']
            when
                coalesce((payload -> 'model_version')::text, 'null') in ('null', '""')
                then array['model_version', 'given']
            when
                coalesce((payload -> 'event')::text, 'null') in ('null', '""')
                then array['event', 'given']
            when
                jsonb_typeof(payload -> 'model') not in ('string', 'null')
                or octet_length(payload ->> 'model') > 512
                then array['model', 'a text of at most 512 bytes in UTF-8']
            when
                jsonb_typeof(payload -> 'model_version') not in ('string', 'null')
                or octet_length(payload ->> 'model_version') > 512
                then array['model_version', 'a text of at most 512 bytes in UTF-8']
            when
                jsonb_typeof(payload -> 'event') not in ('string', 'null')
                or payload ->> 'event' not in (
                    'trained', 'rejected', 'shadow', 'canary', 'promoted',
                    'rolled_back', 'retired'
                )
                then array['event', 'one of trained, rejected, shadow, canary, promoted, rolled_back, retired']
            when
                not has_no_id and (
                    jsonb_typeof(payload -> 'event_id') != 'string'
                    or octet_length(payload ->> 'event_id') > 512
                )
                then array['event_id', 'a text of at most 512 bytes in UTF-8']
            when
                jsonb_typeof(payload -> 'traffic') not in ('number', 'null')
                or traffic < 0 or traffic > 1
                then array['traffic', 'a number in [0, 1]']
            when
                jsonb_typeof(payload -> 'run_id') not in ('string', 'null')
                or octet_length(payload ->> 'run_id') > 512
                then array['run_id', 'a text of at most 512 bytes in UTF-8']
            when
                jsonb_typeof(payload -> 'trigger_id') not in ('string', 'null')
                or octet_length(payload ->> 'trigger_id') > 1024
                then array['trigger_id', 'a text of at most 1024 bytes in UTF-8']
            when
                jsonb_typeof(payload -> 'dataset_id') not in ('string', 'null')
                or octet_length(payload ->> 'dataset_id') > 512
                then array['dataset_id', 'a text of at most 512 bytes in UTF-8']
            when
                jsonb_typeof(payload -> 'parent_version') not in ('string', 'null')
                or octet_length(payload ->> 'parent_version') > 512
                then array['parent_version', 'a text of at most 512 bytes in UTF-8']
            when
                jsonb_typeof(payload -> 'artifact_uri') not in ('string', 'null')
                or octet_length(payload ->> 'artifact_uri') > 2000
                then array['artifact_uri', 'a text of at most 2000 bytes in UTF-8']
            when
                jsonb_typeof(payload -> 'metrics') not in ('object', 'null')
                then array['metrics', 'an object']
            when
                jsonb_typeof(payload -> 'reason') not in ('string', 'null')
                or length(payload ->> 'reason') > 100000
                then array['reason', 'a text of at most 100000 characters']
            when
                jsonb_typeof(payload -> 'event_time') not in ('string', 'null')
                or (payload ->> 'event_time' is not null and event_time is null)
                then array[
                    'event_time',
                    'an RFC 3339 timestamp such as 2024-05-01T12:00:00Z'
                ]
            when
                coalesce(event_time, sent_at) > ingested_at + interval '5 minutes'
                then array['event_time', 'at most 5 minutes ahead of now']
            when
                event_time < '1970-01-01 00:00:00+00:00'::timestamptz
                then array['event_time', '1970-01-01 or later']
            when payload ->> 'traffic' is not null and payload ->> 'event' != 'canary'
                then array['traffic', 'given only with event canary']
        end as problem
    from fields
)

select
    case when has_no_id then origin else payload ->> 'event_id' end as event_id,
    coalesce(event_time, sent_at, ingested_at) as event_time,
    payload ->> 'model' as model,
    payload ->> 'model_version' as model_version,
    payload ->> 'event' as event,
    traffic,
    payload ->> 'run_id' as run_id,
    payload ->> 'trigger_id' as trigger_id,
    payload ->> 'dataset_id' as dataset_id,
    payload ->> 'parent_version' as parent_version,
    payload ->> 'artifact_uri' as artifact_uri,
    metrics,
    payload ->> 'reason' as reason,
    ingested_at,
    -- the message, as JSON
    origin,
    message_offset::bigint * 100000 + message_partition::bigint * 10 + 2 as rejected_id,
    case
        when is_json then raw
        else to_jsonb(coalesce(raw, encode(message, 'escape'), ''))::text
    end as message,
    -- what is wrong
    problem,
    left(coalesce(nullif(coalesce(
        payload ->> problem[1], raw, encode(message, 'escape')
    ), ''), ''''''), 80) as got
from checked;
