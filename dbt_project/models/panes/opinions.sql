-- What people and systems said of predictions beside their labels: reports, and feedback with a name
-- (`metadata.name`), such as one of several scores. A person has one report of a prediction, and one
-- opinion of a kind and name, the last one; those without a user_id count each.
-- grain: prediction, kind, name and person.  key: all but what was said.
-- lateness: any; feedback waits in its topic until its inference comes; a later opinion of the same
-- person replaces this one, a retraction takes it back.
-- depends_on: {{ ref('answered_again') }}, {{ ref('waiting_feedback') }}
{{ config(
    key=['request_id', 'model', 'item_id', 'kind', 'name', 'user_id', 'anonymous_id'],
    recompute={
        'events.inference': '
            select n.request_id from new_rows as n
            where ' ~ has_feedback(),
        'events.feedback': "
            select request_id from new_rows
            where kind = 'report' or retracts is not null or metadata ? 'name'",
    },
    deletes=['events.feedback'],
    retention='400 days',
    time_column='known_at',
    indexes=[['model', 'name', 'model_version', 'feedback_time']]
) }}

with said as (
    select
        f.request_id,
        f.kind,
        case
            when f.kind != 'report' then nullif(left(f.metadata ->> 'name', 100), '')
        end as name,
        nullif(f.user_id, '') as user_id,
        case when coalesce(f.user_id, '') = '' then f.feedback_id end as anonymous_id,
        f.feedback_id,
        i.model,
        i.item_id,
        i.model_version,
        f.value,
        coalesce(f.label, {{ number_text('f.value') }}) as label,
        f.event_time as feedback_time,
        greatest(f.event_time, i.event_time) as known_at
    from {{ source('events', 'feedback') }} as f
    inner join {{ source('events', 'inference') }} as i
        on f.request_id = i.request_id and {{ is_about('f', 'i') }}
    where
        {{ is_standing('f', source('events', 'feedback')) }}
        and f.kind not in ('preference', 'retraction')
        and (f.kind = 'report' or coalesce(f.metadata ->> 'name', '') != '')
),

ordered as (
    select
        *,
        row_number() over (
            partition by request_id, model, item_id, kind, name, user_id, anonymous_id
            order by feedback_time desc, {{ in_bytes('feedback_id') }} desc
        ) as place
    from said
)

select
    request_id,
    model,
    item_id,
    kind,
    name,
    user_id,
    anonymous_id,
    feedback_id,
    model_version,
    value,
    label,
    feedback_time,
    known_at
from ordered
where place = 1
