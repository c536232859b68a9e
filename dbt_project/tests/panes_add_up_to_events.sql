-- No event is lost or counted twice in the panes. Fine panes are kept for two days behind the
-- model's clock and compared there; hours are kept for 400 days, so models with older events are
-- left out.
{%- set panes = [
    ('inferences', 'inference_panes', "grain = '1 minute'", true),
    ('inferences', 'inference_panes', "grain = '1 hour'", false),
    ('inferences', 'request_panes', "grain = '10 seconds'", true),
    ('inferences', 'request_panes', "grain = '1 hour'", false),
    ('inferences', 'latency_panes', "grain = '10 seconds'", true),
    ('inferences', 'latency_panes', "grain = '1 hour'", false),
    ('inferences', 'model_activity', 'true', false),
    ('examples', 'label_panes', "clock = 'inference' and grain = '1 minute'", true),
    ('examples', 'label_panes', "clock = 'inference' and grain = '1 hour'", false),
    ('examples', 'label_panes', "clock = 'label'", false),
    ('not of shadows', 'label_counts', 'true', false)
] %}
{%- set units = {'not of shadows': 'examples'} %}
with spans as (
    select
        model,
        {{ pane_start('1 hour', "event_clock - interval '48 hours'") }}
        + interval '1 hour' as fine_from,
        first_event_time > event_clock - interval '9600 hours' as is_whole
    from {{ ref('model_clock') }}
),

facts as (
    select
        model,
        'inferences' as unit,
        event_time as happened_at
    from {{ ref('stg_inference') }}
    union all
    select
        model,
        'examples' as unit,
        inference_time as happened_at
    from {{ ref('labels') }}
    where settled_at is not null
    union all
    select
        model,
        'not of shadows' as unit,
        inference_time as happened_at
    from {{ ref('labels') }}
    where variant != 'shadow' and settled_at is not null
),

happened as (
    select
        facts.model,
        facts.unit,
        count(*) as everything,
        count(*) filter (where facts.happened_at >= spans.fine_from) as latest
    from facts
    left join spans on facts.model = spans.model
    group by facts.model, facts.unit
),

{% for unit, pane, which, is_fine in panes -%}
expected_{{ loop.index }} as (
    select
        model,
        {{ 'latest' if is_fine else 'everything' }} as expected
    from happened
    where unit = '{{ unit }}'
),

counted_{{ loop.index }} as (
    select
        stored.model,
        sum(stored.{{ units.get(unit, unit) }}) as counted
    from {{ ref(pane) }} as stored
    {%- if is_fine %}
    inner join spans
        on stored.model = spans.model and stored.pane_start >= spans.fine_from
    {%- endif %}
    where {{ which }}
    group by stored.model
),

{% endfor -%}
compared as (
    {%- for unit, pane, which, is_fine in panes %}
    {%- if not loop.first %}
    union all
    {%- endif %}
    select
        '{{ pane }}: {{ which | replace("'", "") }}' as pane,
        {{ is_fine }} as is_fine,
        coalesce(happened.model, stored.model) as model,
        coalesce(happened.expected, 0) as expected,
        coalesce(stored.counted, 0) as counted
    from expected_{{ loop.index }} as happened
    full outer join counted_{{ loop.index }} as stored
        on happened.model = stored.model
    {%- endfor %}
)

select compared.*
from compared
left join spans on compared.model = spans.model
where
    compared.expected != compared.counted
    and (compared.is_fine or coalesce(spans.is_whole, true))
