-- The contract of headrace.events, in SQL: what each message says, and what is wrong with it.
-- grain: one message.  key: origin.  lateness: any; `event_time` is at most five minutes ahead of
-- when the message came in, and not before 1970.
-- `problem` is null where nothing is wrong, else the first field that breaks the contract ('' where
-- it is the message as a whole) and what it should have been. A message without an id gets its
-- origin as one, a message without an event_time the time at which it was sent (which is the sender's
-- word, so it may be ahead, too), or came in where that is not known.

create view if not exists events.inference_read as
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
        '${prefix}inference/' || message_partition || '/' || message_offset as origin,
        payload - array[
            'model', 'model_version', 'request_id', 'event_time', 'variant',
            'endpoint', 'segment', 'user_id', 'session_id', 'item_id', 'features',
            'input', 'output', 'prediction', 'score', 'propensity', 'latency_ms',
            'error', 'shadow_of'
        ]::varchar[] as others,
        -- what counts as missing
        coalesce((payload -> 'request_id')::text, 'null') in (
            'null', '""', 'false', '0', '0.0', '-0', '-0.0', '[]', '{}'
        ) as has_no_id,
        (
            moment[1] || ' ' || moment[2] || coalesce(moment[3], '')
            || coalesce(moment[4] || ':' || moment[5], '+00:00')
        )::timestamptz as event_time,
        case
            when jsonb_typeof(payload -> 'prediction') = 'number'
                then (payload ->> 'prediction')::double precision
        end as prediction_number,
        case
            when
                jsonb_typeof(payload -> 'prediction') = 'number'
                and (payload ->> 'prediction') ~ '^-?[0-9]{1,19}$$'
                then (payload ->> 'prediction')::bigint
        end as prediction_whole,
        case
            when jsonb_typeof(payload -> 'input') = 'number'
                then (payload ->> 'input')::double precision
        end as input_number,
        case
            when jsonb_typeof(payload -> 'output') = 'number'
                then (payload ->> 'output')::double precision
        end as output_number,
        case
            when jsonb_typeof(payload -> 'score') = 'number'
                then (payload ->> 'score')::double precision
        end as score,
        case
            when jsonb_typeof(payload -> 'propensity') = 'number'
                then (payload ->> 'propensity')::double precision
        end as propensity,
        case
            when jsonb_typeof(payload -> 'latency_ms') = 'number'
                then (payload ->> 'latency_ms')::double precision
        end as latency_ms,
        case
            when jsonb_typeof(payload -> 'features') = 'object' then payload -> 'features'
            else '{}'::jsonb
        end as features,
        case
            when jsonb_typeof(payload -> 'input') != 'null' then payload -> 'input'
        end as input,
        case
            when jsonb_typeof(payload -> 'output') != 'null' then payload -> 'output'
        end as output
    from events.inference_messages
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
                jsonb_typeof(payload -> 'features') not in ('object', 'null')
                then array[
                    'features', 'an object of name to number, string, bool or null'
                ]
            when
                jsonb_array_length(jsonb_path_query_array(features, 'strict $$.*')) > 1000
                then array['features', 'at most 1000 names']
            when
                jsonb_path_exists(features, 'strict $$.keyvalue() ? (@.key == "")')
                or jsonb_path_exists(
                    features,
                    'strict $$.keyvalue() ? (@.key like_regex "^(.|\n){200}(.|\n){57}")'
                )
                then array['features', 'an object with names of 1 to 256 characters']
            when
                jsonb_path_exists(
                    features,
                    'strict $$.keyvalue() ? (@.value.type() == "object" || @.value.type() == "array")'
                )
                then array[
                    'features.' || (jsonb_path_query_first(
                        features,
                        'strict $$.keyvalue() ? (@.value.type() == "object" || @.value.type() == "array").key'
                    ) #>> '{}'::varchar[]),
                    'a number, a string, a bool or null'
                ]
            when
                jsonb_path_exists(
                    features,
                    'strict $$.keyvalue() ? (@.value > $$high || @.value < $$low)',
                    '{"high": 1e300, "low": -1e300}'::jsonb
                )
                then array[
                    'features.' || (jsonb_path_query_first(
                        features,
                        'strict $$.keyvalue() ? (@.value > $$high || @.value < $$low).key',
                        '{"high": 1e300, "low": -1e300}'::jsonb
                    ) #>> '{}'::varchar[]),
                    'a finite number (null stands for a missing one)'
                ]
            when
                jsonb_typeof(payload -> 'model') not in ('string', 'null')
                or octet_length(payload ->> 'model') > 512
                then array['model', 'a text of at most 512 bytes in UTF-8']
            when
                jsonb_typeof(payload -> 'model_version') not in ('string', 'null')
                or octet_length(payload ->> 'model_version') > 512
                then array['model_version', 'a text of at most 512 bytes in UTF-8']
            when
                not has_no_id and (
                    jsonb_typeof(payload -> 'request_id') != 'string'
                    or octet_length(payload ->> 'request_id') > 512
                )
                then array['request_id', 'a text of at most 512 bytes in UTF-8']
            when
                jsonb_typeof(payload -> 'variant') not in ('string', 'null')
                or payload ->> 'variant' not in (
                    'champion', 'canary', 'shadow', 'explore', 'holdout'
                )
                then array['variant', 'one of champion, canary, shadow, explore, holdout']
            when
                jsonb_typeof(payload -> 'endpoint') not in ('string', 'null')
                or octet_length(payload ->> 'endpoint') > 512
                then array['endpoint', 'a text of at most 512 bytes in UTF-8']
            when
                jsonb_typeof(payload -> 'segment') not in ('string', 'null')
                or octet_length(payload ->> 'segment') > 512
                then array['segment', 'a text of at most 512 bytes in UTF-8']
            when
                jsonb_typeof(payload -> 'user_id') not in ('string', 'null')
                or octet_length(payload ->> 'user_id') > 512
                then array['user_id', 'a text of at most 512 bytes in UTF-8']
            when
                jsonb_typeof(payload -> 'session_id') not in ('string', 'null')
                or octet_length(payload ->> 'session_id') > 512
                then array['session_id', 'a text of at most 512 bytes in UTF-8']
            when
                jsonb_typeof(payload -> 'item_id') not in ('string', 'null')
                or octet_length(payload ->> 'item_id') > 512
                then array['item_id', 'a text of at most 512 bytes in UTF-8']
            when
                jsonb_typeof(input) = 'string' and length(payload ->> 'input') > 100000
                then array['input', 'at most 100000 characters']
            when
                abs(input_number) > '1e300'::double precision
                then array['input', 'a finite number']
            when
                jsonb_typeof(output) = 'string' and length(payload ->> 'output') > 100000
                then array['output', 'at most 100000 characters']
            when
                abs(output_number) > '1e300'::double precision
                then array['output', 'a finite number']
            when
                jsonb_typeof(payload -> 'prediction') not in (
                    'string', 'number', 'boolean', 'null'
                )
                or abs(prediction_number) > '1e300'::double precision
                then array['prediction', 'a string, a number or a boolean']
            when
                jsonb_typeof(payload -> 'prediction') = 'string'
                and octet_length(payload ->> 'prediction') > 512
                then array['prediction', 'at most 512 bytes in UTF-8']
            when
                jsonb_typeof(payload -> 'score') not in ('number', 'null')
                or score < 0 or score > 1
                then array['score', 'a number in [0, 1]']
            when
                jsonb_typeof(payload -> 'propensity') not in ('number', 'null')
                or propensity <= 0 or propensity > 1
                then array['propensity', 'a number in (0, 1]']
            when
                jsonb_typeof(payload -> 'latency_ms') not in ('number', 'null')
                or latency_ms < 0 or latency_ms > '1e300'::double precision
                then array['latency_ms', 'a number of milliseconds, 0 or more']
            when
                jsonb_typeof(payload -> 'error') not in ('string', 'null')
                or length(payload ->> 'error') > 100000
                then array['error', 'a text of at most 100000 characters']
            when
                jsonb_typeof(payload -> 'shadow_of') not in ('string', 'null')
                or octet_length(payload ->> 'shadow_of') > 512
                then array['shadow_of', 'a text of at most 512 bytes in UTF-8']
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
            when
                payload ->> 'shadow_of' != ''
                and coalesce(payload ->> 'variant', 'champion') != 'shadow'
                then array['shadow_of', 'given only with variant shadow']
        end as problem
    from fields
)

select
    case when has_no_id then origin else payload ->> 'request_id' end as request_id,
    coalesce(event_time, sent_at, ingested_at) as event_time,
    payload ->> 'model' as model,
    coalesce(payload ->> 'model_version', 'unversioned') as model_version,
    coalesce(payload ->> 'variant', 'champion') as variant,
    payload ->> 'endpoint' as endpoint,
    payload ->> 'segment' as segment,
    payload ->> 'user_id' as user_id,
    payload ->> 'session_id' as session_id,
    payload ->> 'item_id' as item_id,
    features,
    input,
    output,
    case
        when jsonb_typeof(payload -> 'prediction') != 'number' then payload ->> 'prediction'
        when prediction_whole is not null then prediction_whole::text
        when
            prediction_number = trunc(prediction_number)
            and abs(prediction_number) < '9223372036854775808'::double precision
            then prediction_number::bigint::text
        else prediction_number::text
    end as prediction,
    score,
    propensity,
    latency_ms,
    payload ->> 'error' as error,
    payload ->> 'shadow_of' as shadow_of,
    ingested_at,
    -- the message, as JSON
    origin,
    message_offset::bigint * 100000 + message_partition::bigint * 10 as rejected_id,
    case
        when is_json then raw
        else to_jsonb(coalesce(raw, encode(message, 'escape'), ''))::text
    end as message,
    -- what is wrong
    problem,
    left(coalesce(nullif(coalesce(
        payload ->> problem[1],
        payload -> 'features' ->> substr(problem[1], 10),
        raw,
        encode(message, 'escape')
    ), ''), ''''''), 80) as got
from checked;

create view if not exists events.feedback_read as
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
        '${prefix}feedback/' || message_partition || '/' || message_offset as origin,
        payload - array[
            'request_id', 'feedback_id', 'event_time', 'kind', 'value', 'label',
            'rejected_request_id', 'source', 'user_id', 'metadata'
        ]::varchar[] as others,
        -- what counts as missing
        coalesce((payload -> 'feedback_id')::text, 'null') in (
            'null', '""', 'false', '0', '0.0', '-0', '-0.0', '[]', '{}'
        ) as has_no_id,
        (
            moment[1] || ' ' || moment[2] || coalesce(moment[3], '')
            || coalesce(moment[4] || ':' || moment[5], '+00:00')
        )::timestamptz as event_time,
        case
            when jsonb_typeof(payload -> 'label') = 'number'
                then (payload ->> 'label')::double precision
        end as label_number,
        case
            when
                jsonb_typeof(payload -> 'label') = 'number'
                and (payload ->> 'label') ~ '^-?[0-9]{1,19}$$'
                then (payload ->> 'label')::bigint
        end as label_whole,
        case
            when jsonb_typeof(payload -> 'value') = 'number'
                then (payload ->> 'value')::double precision
            when payload ->> 'value' = 'true' then 1
            when payload ->> 'value' = 'false' then 0
        end as value,
        coalesce(payload ->> 'kind', 'label') as kind,
        case
            when jsonb_typeof(payload -> 'metadata') = 'object' then payload -> 'metadata'
            else '{}'::jsonb
        end as metadata
    from events.feedback_messages
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
                coalesce((payload -> 'request_id')::text, 'null') in ('null', '""')
                then array['request_id', 'given']
            when
                jsonb_typeof(payload -> 'request_id') not in ('string', 'null')
                or octet_length(payload ->> 'request_id') > 512
                then array['request_id', 'a text of at most 512 bytes in UTF-8']
            when
                not has_no_id and (
                    jsonb_typeof(payload -> 'feedback_id') != 'string'
                    or octet_length(payload ->> 'feedback_id') > 512
                )
                then array['feedback_id', 'a text of at most 512 bytes in UTF-8']
            when
                jsonb_typeof(payload -> 'kind') not in ('string', 'null')
                or payload ->> 'kind' not in (
                    'rating', 'thumbs', 'click', 'dwell', 'purchase', 'conversion',
                    'correction', 'label', 'preference', 'report', 'comment'
                )
                then array[
                    'kind',
                    'one of rating, thumbs, click, dwell, purchase, conversion, correction, label, preference, report, comment'
                ]
            when
                jsonb_typeof(payload -> 'value') not in ('number', 'boolean', 'null')
                or abs(value) > '1e300'::double precision
                then array['value', 'a finite number']
            when
                jsonb_typeof(payload -> 'label') not in (
                    'string', 'number', 'boolean', 'null'
                )
                or abs(label_number) > '1e300'::double precision
                then array['label', 'a string, a number or a boolean']
            when
                jsonb_typeof(payload -> 'label') = 'string'
                and octet_length(payload ->> 'label') > 512
                then array['label', 'at most 512 bytes in UTF-8']
            when
                jsonb_typeof(payload -> 'rejected_request_id') not in ('string', 'null')
                or octet_length(payload ->> 'rejected_request_id') > 512
                then array['rejected_request_id', 'a text of at most 512 bytes in UTF-8']
            when
                jsonb_typeof(payload -> 'source') not in ('string', 'null')
                or payload ->> 'source' not in (
                    'explicit', 'implicit', 'human', 'system'
                )
                then array['source', 'one of explicit, implicit, human, system']
            when
                jsonb_typeof(payload -> 'user_id') not in ('string', 'null')
                or octet_length(payload ->> 'user_id') > 512
                then array['user_id', 'a text of at most 512 bytes in UTF-8']
            when
                jsonb_typeof(payload -> 'metadata') not in ('object', 'null')
                then array['metadata', 'an object']
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
            when
                kind = 'preference' and coalesce(payload ->> 'rejected_request_id', '') = ''
                then array['rejected_request_id', 'given for kind preference']
            when
                kind not in (
                    'click', 'purchase', 'conversion', 'preference', 'report', 'comment'
                )
                and payload ->> 'value' is null and payload ->> 'label' is null
                then array['label', 'given (or value) for this kind']
        end as problem
    from fields
)

select
    case when has_no_id then origin else payload ->> 'feedback_id' end as feedback_id,
    payload ->> 'request_id' as request_id,
    coalesce(event_time, sent_at, ingested_at) as event_time,
    kind,
    case
        when
            kind in ('click', 'purchase', 'conversion')
            and value is null and payload ->> 'label' is null then 1
        else value
    end as value,
    case
        when jsonb_typeof(payload -> 'label') != 'number' then payload ->> 'label'
        when label_whole is not null then label_whole::text
        when
            label_number = trunc(label_number)
            and abs(label_number) < '9223372036854775808'::double precision
            then label_number::bigint::text
        else label_number::text
    end as label,
    payload ->> 'rejected_request_id' as rejected_request_id,
    coalesce(payload ->> 'source', 'explicit') as source,
    payload ->> 'user_id' as user_id,
    metadata,
    ingested_at,
    -- the message, as JSON
    origin,
    message_offset::bigint * 100000 + message_partition::bigint * 10 + 1 as rejected_id,
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

-- Dead letters of whoever checked an event before it came here; what is none is one itself.
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
