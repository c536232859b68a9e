-- The contract of feedback (headrace/events/contract.py) in SQL: what each message of the topic
-- says, and what is wrong with it. Columns are explained in 003_contract_inference.sql.
-- grain: one message.  key: origin.
-- lateness: any; event_time is at most five minutes ahead of when the message came in, and not
-- before 1970.

create view if not exists events.feedback_read as
with texts as (
    select
        *,
        -- without what is blank at its ends
        btrim(
            payload ->> 'label',
            ' ' || chr(9) || chr(10) || chr(11) || chr(12) || chr(13) || chr(160) || chr(12288)
        ) as label_text
    from events.feedback_messages
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
        label_text,
        '${prefix}feedback/' || message_partition || '/' || message_offset as origin,
        payload - array[
            'request_id', 'model', 'item_id', 'feedback_id', 'event_time', 'kind', 'value',
            'label', 'rejected_request_id', 'retracts', 'source', 'user_id', 'metadata'
        ]::varchar[] as others,
        -- what counts as missing
        coalesce((payload -> 'feedback_id')::text, 'null') in (
            'null', '""', 'false', '0', '0.0', '-0', '-0.0', '[]', '{}'
        ) as has_no_id,
        (
            moment[1] || ' ' || moment[2] || coalesce(moment[3], '')
            || coalesce(moment[4] || ':' || moment[5], '+00:00')
        )::timestamptz as event_time,
        -- a number, also as a text: without leading zeros and with 15 significant digits at most
        case
            when jsonb_typeof(payload -> 'label') = 'number'
                then (payload ->> 'label')::double precision
            when
                jsonb_typeof(payload -> 'label') = 'string'
                and label_text ~ '^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]{1,2})?$$'
                and length(
                    ltrim(split_part(split_part(lower(label_text), 'e', 1), '.', 1), '-')
                    || rtrim(split_part(split_part(lower(label_text), 'e', 1), '.', 2), '0')
                ) <= 15
                then label_text::double precision
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
                coalesce((payload -> 'request_id')::text, 'null') in ('null', '""')
                then array['request_id', 'given']
            when
                jsonb_typeof(payload -> 'request_id') not in ('string', 'null')
                or octet_length(payload ->> 'request_id') > 512
                then array['request_id', 'a text of at most 512 bytes in UTF-8']
            when
                jsonb_typeof(payload -> 'model') not in ('string', 'null')
                or octet_length(payload ->> 'model') > 512
                then array['model', 'a text of at most 512 bytes in UTF-8']
            when
                jsonb_typeof(payload -> 'item_id') not in ('string', 'null')
                or octet_length(payload ->> 'item_id') > 512
                then array['item_id', 'a text of at most 512 bytes in UTF-8']
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
                    'correction', 'label', 'preference', 'report', 'comment', 'retraction'
                )
                then array[
                    'kind',
                    'one of rating, thumbs, click, dwell, purchase, conversion, correction, label, preference, report, comment, retraction'
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
                jsonb_typeof(payload -> 'retracts') not in ('string', 'null')
                or octet_length(payload ->> 'retracts') > 512
                then array['retracts', 'a text of at most 512 bytes in UTF-8']
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
            when payload ->> 'model' = ''
                then array['model', 'not blank (left out for every model)']
            when
                jsonb_typeof(payload -> 'label') = 'string' and label_text = ''
                then array['label', 'not blank (left out where there is none)']
            when
                kind = 'preference' and coalesce(payload ->> 'rejected_request_id', '') = ''
                then array['rejected_request_id', 'given for kind preference']
            when kind != 'preference' and payload ->> 'rejected_request_id' is not null
                then array['rejected_request_id', 'given only for kind preference']
            when
                kind = 'retraction' and coalesce(payload ->> 'retracts', '') = ''
                then array['retracts', 'given for kind retraction']
            when kind != 'retraction' and payload ->> 'retracts' is not null
                then array['retracts', 'given only for kind retraction']
            when
                kind in ('preference', 'report', 'comment', 'retraction')
                and payload ->> 'label' is not null
                then array['label', 'left out for this kind']
            when
                kind in ('report', 'comment', 'retraction')
                and payload ->> 'value' is not null
                then array['value', 'left out for this kind']
            when
                kind not in (
                    'click', 'purchase', 'conversion', 'preference', 'report', 'comment',
                    'retraction'
                )
                and payload ->> 'value' is null and payload ->> 'label' is null
                then array['label', 'given (or value) for this kind']
        end as problem
    from fields
)

select
    case when has_no_id then origin else payload ->> 'feedback_id' end as feedback_id,
    payload ->> 'request_id' as request_id,
    payload ->> 'model' as model,
    payload ->> 'item_id' as item_id,
    coalesce(event_time, sent_at, ingested_at) as event_time,
    kind,
    case
        when
            kind in ('click', 'purchase', 'conversion')
            and value is null and payload ->> 'label' is null then 1
        else value
    end as value,
    case
        when label_whole is not null then label_whole::text
        when lower(label_text) = 'true' then '1'
        when lower(label_text) = 'false' then '0'
        when label_number is null then label_text
        when
            label_number = trunc(label_number)
            and abs(label_number) < '9223372036854775808'::double precision
            then label_number::bigint::text
        else label_number::text
    end as label,
    payload ->> 'rejected_request_id' as rejected_request_id,
    payload ->> 'retracts' as retracts,
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
