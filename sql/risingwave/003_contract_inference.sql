-- The contract of inferences (headrace/events/contract.py) in SQL: what each message of the topic
-- says, and what is wrong with it.
-- grain: one message.  key: origin.
-- lateness: any; event_time is at most five minutes ahead of when the message came in, and not
-- before 1970.
--   problem     null where the message keeps the contract; else the first field that breaks it ('' for
--               the message as a whole) and what it must be
--   got         what it is instead, shortened
--   request_id  the origin, where the message has none
--   event_time  when the message was sent, where it has none (by the sender's clock, so it may be
--               ahead, too); when it came in, where that is not known either

create view if not exists events.inference_read as
with texts as (
    select
        *,
        -- without what is blank at its ends
        btrim(
            payload ->> 'prediction',
            ' ' || chr(9) || chr(10) || chr(11) || chr(12) || chr(13) || chr(160) || chr(12288)
        ) as prediction_text
    from events.inference_messages
),

fields as (
    select
        message,
        message_partition,
        message_offset,
        sent_at,
        ingested_at,
        raw,
        is_json,
        payload,
        prediction_text,
        '${prefix}inference/' || message_partition || '/' || message_offset as origin,
        payload - array[
            'model', 'model_version', 'request_id', 'event_time', 'variant',
            'endpoint', 'segment', 'user_id', 'session_id', 'item_id', 'features',
            'feature_ages', 'input', 'output', 'prediction', 'score', 'probabilities', 'propensity',
            'target_propensity', 'position', 'latency_ms', 'error', 'shadow_of'
        ]::varchar[] as others,
        -- what counts as missing
        coalesce((payload -> 'request_id')::text, 'null') in (
            'null', '""', 'false', '0', '0.0', '-0', '-0.0', '[]', '{}'
        ) as has_no_id,
        (
            moment[1] || ' ' || moment[2] || coalesce(moment[3], '')
            || coalesce(moment[4] || ':' || moment[5], '+00:00')
        )::timestamptz as event_time,
        -- a number, also as a text: without leading zeros and with 15 significant digits at most
        case
            when jsonb_typeof(payload -> 'prediction') = 'number'
                then (payload ->> 'prediction')::double precision
            when
                jsonb_typeof(payload -> 'prediction') = 'string'
                and prediction_text ~ '^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]{1,2})?$$'
                and length(
                    ltrim(split_part(split_part(lower(prediction_text), 'e', 1), '.', 1), '-')
                    || rtrim(split_part(split_part(lower(prediction_text), 'e', 1), '.', 2), '0')
                ) <= 15
                then prediction_text::double precision
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
            when jsonb_typeof(payload -> 'target_propensity') = 'number'
                then (payload ->> 'target_propensity')::double precision
        end as target_propensity,
        case
            when
                jsonb_typeof(payload -> 'position') = 'number'
                and (payload ->> 'position') ~ '^[0-9]{1,7}$$'
                then (payload ->> 'position')::integer
        end as place,
        case
            when jsonb_typeof(payload -> 'latency_ms') = 'number'
                then (payload ->> 'latency_ms')::double precision
        end as latency_ms,
        case
            when jsonb_typeof(payload -> 'features') = 'object' then payload -> 'features'
            else '{}'::jsonb
        end as features,
        case
            when jsonb_typeof(payload -> 'probabilities') = 'object'
                then payload -> 'probabilities'
        end as probabilities,
        case
            when jsonb_typeof(payload -> 'feature_ages') = 'object'
                then payload -> 'feature_ages'
        end as feature_ages,
        case
            when jsonb_typeof(payload -> 'input') != 'null' then payload -> 'input'
        end as input,
        case
            when jsonb_typeof(payload -> 'output') != 'null' then payload -> 'output'
        end as output
    from texts
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
                jsonb_typeof(payload -> 'probabilities') not in ('object', 'null')
                or jsonb_path_exists(
                    probabilities, 'strict $$.keyvalue() ? (@.value.type() != "number")'
                )
                or jsonb_path_exists(
                    probabilities, 'strict $$.keyvalue() ? (@.value < 0 || @.value > 1)'
                )
                then array['probabilities', 'an object of class to number in [0, 1]']
            when
                jsonb_array_length(jsonb_path_query_array(probabilities, 'strict $$.*')) > 1000
                then array['probabilities', 'at most 1000 classes']
            when
                jsonb_path_exists(probabilities, 'strict $$.keyvalue() ? (@.key == "")')
                or jsonb_path_exists(
                    probabilities,
                    'strict $$.keyvalue() ? (@.key like_regex "^(.|\n){200}(.|\n){57}")'
                )
                then array['probabilities', 'an object with names of 1 to 256 characters']
            when
                jsonb_typeof(payload -> 'feature_ages') not in ('object', 'null')
                or jsonb_path_exists(
                    feature_ages,
                    'strict $$.keyvalue() ? (@.value.type() != "number" && @.value.type() != "null")'
                )
                or jsonb_path_exists(
                    feature_ages,
                    'strict $$.keyvalue() ? (@.value > $$high || @.value < $$low)',
                    '{"high": 1e300, "low": -1e300}'::jsonb
                )
                then array['feature_ages', 'an object of feature view to seconds or null']
            when
                jsonb_array_length(jsonb_path_query_array(feature_ages, 'strict $$.*')) > 1000
                then array['feature_ages', 'at most 1000 views']
            when
                jsonb_path_exists(feature_ages, 'strict $$.keyvalue() ? (@.key == "")')
                or jsonb_path_exists(
                    feature_ages,
                    'strict $$.keyvalue() ? (@.key like_regex "^(.|\n){200}(.|\n){57}")'
                )
                then array['feature_ages', 'an object with names of 1 to 256 characters']
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
                jsonb_typeof(payload -> 'target_propensity') not in ('number', 'null')
                or target_propensity < 0 or target_propensity > 1
                then array['target_propensity', 'a number in [0, 1]']
            when
                jsonb_typeof(payload -> 'position') not in ('number', 'null')
                or (jsonb_typeof(payload -> 'position') = 'number' and place is null)
                or place < 1 or place > 1000000
                then array['position', 'a whole number from 1 to 1000000']
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
    feature_ages,
    input,
    output,
    case
        when prediction_whole is not null then prediction_whole::text
        when lower(prediction_text) = 'true' then '1'
        when lower(prediction_text) = 'false' then '0'
        when prediction_number is null then nullif(prediction_text, '')
        when
            prediction_number = trunc(prediction_number)
            and abs(prediction_number) < '9223372036854775808'::double precision
            then prediction_number::bigint::text
        else prediction_number::text
    end as prediction,
    score,
    probabilities,
    propensity,
    target_propensity,
    place as position,
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
