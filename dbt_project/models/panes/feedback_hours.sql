-- Feedback by the hour in which it became known, by what was said and where. Of a report the topic is
-- its label, or else `type` in its metadata.
-- grain: hour, version, segment, endpoint, kind and topic.  key: all but the measures.
-- lateness: any; feedback waits in its topic until its inference comes.
-- depends_on: {{ ref('answered_again') }}, {{ ref('waiting_feedback') }}
{{ config(
    key=['model', 'pane_start', 'kind', 'topic', 'model_version', 'segment', 'endpoint'],
    deltas={
        'events.inference': '
            select n.* from new_rows as n
            where ' ~ has_feedback(),
        'events.feedback': 'select * from new_rows',
    },
    retention='400 days'
) }}

with heard as (
    select
        i.model,
        {{ pane_start('1 hour', 'greatest(f.event_time, i.event_time)') }}
            as pane_start,
        f.kind,
        case when f.kind = 'report' then left(f.metadata ->> 'type', 64) end as topic,
        i.model_version,
        i.segment,
        i.endpoint,
        f.value
    from {{ source('events', 'feedback') }} as f
    inner join {{ source('events', 'inference') }} as i
        on f.request_id = i.request_id and {{ is_about('f', 'i') }}
    where i.variant != 'shadow'
    {{ fence() }}
)

select
    model,
    pane_start,
    kind,
    topic,
    model_version,
    segment,
    endpoint,
    count(*) as feedback,
    count(case when value > 0 then 1 end) as positive,
    count(case when value <= 0 then 1 end) as negative
from heard
group by 1, 2, 3, 4, 5, 6, 7
