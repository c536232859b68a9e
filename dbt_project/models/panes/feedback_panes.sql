-- Feedback by the minute in which it became known, and all of it ('ever'). Nothing is ever taken
-- out, so what was known at any past time can be queried.
-- grain: minute (or 'ever'), version, segment, kind and label.  key: all but the measures.
-- lateness: any; feedback waits in its topic until its inference comes.
-- depends_on: {{ ref('answered_again') }}, {{ ref('waiting_feedback') }}
{{ config(
    key=['model', 'grain', 'pane_start', 'model_version', 'segment', 'kind', 'label'],
    deltas={
        'events.inference': '
            select n.* from new_rows as n
            where ' ~ has_feedback(),
        'events.feedback': 'select * from new_rows',
    },
    merge={
        'last_known_at': 'max', 'first_feedback_time': 'min', 'last_feedback_time': 'max'
    },
    retention={'1 minute': '400 days'}
) }}

{%- for grain in ['1 minute', 'ever'] %}
{%- if not loop.first %}
union all
{%- endif %}
select
    '{{ grain }}' as grain,
    {% if grain == 'ever' -%}
        to_timestamp(0)
    {%- else -%}
        {{ pane_start(grain, 'known_at') }}
    {%- endif %} as pane_start,
    model,
    model_version,
    segment,
    kind,
    {{ as_class('label') }} as label,
    count(*) as feedback,
    max(known_at) as last_known_at,
    min(least(feedback_time, ingested_at)) as first_feedback_time,
    max(least(feedback_time, ingested_at)) as last_feedback_time
from {{ ref('stg_attributed_feedback') }}
group by 2, 3, 4, 5, 6, 7
{%- endfor %}
