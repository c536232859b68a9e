{#-
  The windows of model_performance: those of windows(), and those that a policy adds
  (custom_windows). A query measures panes window by window:

      {% call windowed() %} select ... from {{ window_rows(ref('a_pane')) }} ... {% endcall %}

  It adds window_name, window_start, window_end and model to what the body selects. A window is
  [start, end), its end a multiple of its step since 1970-01-01; the newest one ends at the first
  such time after the model's clock. A window that reaches back beyond what is kept of a longer
  history is not there, as a part of it would look like the whole. The body groups by window_keys()
  and by columns of its own; its rows carry the label_columns() of the model.

  PostgreSQL runs the body once for each window that is asked for, over the panes of that window
  alone; RisingWave puts every pane into each window that it belongs to.
-#}

{#-
  Name, grain of the panes (none: the finest of a pane), length and step in seconds, and for how
  many seconds behind the hour of the model's clock its panes are kept.
-#}
{% macro windows() -%}
    {{ return([
        ('1 minute', none, 60, 60, 172800),
        ('5 minutes', none, 300, 60, 172800),
        ('1 hour', '1 hour', 3600, 3600, headrace.hours_kept() | int),
        ('1 day', '1 hour', 86400, 86400, headrace.hours_kept() | int),
        ('30 days', '1 hour', 2592000, 86400, headrace.hours_kept() | int),
    ]) }}
{%- endmacro %}

{#- For how many seconds behind the hour of the model's clock panes of hours are kept. -#}
{% macro hours_kept() %}34560000{% endmacro %}

{#- What positive_labels says of a model that measures depend on: columns of the rows of a window. -#}
{% macro label_columns() -%}
    {{ return(['positive_label', 'positive_source', 'task', 'score_of', 'null_because']) }}
{%- endmacro %}

{#- The positive_labels that FROM joins, with these columns. -#}
{% macro labels_told() -%}
    (
        select
            model,
            positive_label,
            source as positive_source,
            task,
            score_of,
            null_because
        from {{ ref('positive_labels') }}
    )
{%- endmacro %}

{% macro windowed() -%}
    {{ return(adapter.dispatch('windowed', 'headrace')(caller())) }}
{%- endmacro %}

{% macro default__windowed(body) %}{{ body }}{% endmacro %}

{% macro postgres__windowed(body) -%}
with models as (
    select
        clock.model,
        {%- for name in headrace.label_columns() %}
        positive.{{ name }},
        {%- endfor %}
        floor(extract(epoch from clock.first_event_time))::bigint as first_second,
        floor(extract(epoch from clock.event_clock))::bigint as last_second,
        extract(epoch from {{ headrace.pane_start('1 hour', 'clock.event_clock') }})::bigint
            as last_hour
    from {{ ref('model_clock') }} as clock
    inner join {{ headrace.labels_told() }} as positive on clock.model = positive.model
),

lengths as (
    {%- for name, grain, length, step, kept in headrace.windows() %}
    select
        models.*,
        '{{ name }}' as window_name,
        {{ "'" ~ grain ~ "'" if grain else 'null' }} as grain,
        {{ length }}::bigint as seconds,
        {{ step }}::bigint as step,
        {{ kept }}::bigint as kept
    from models
    union all
    {%- endfor %}
    select
        models.*,
        custom.window_name,
        '1 hour' as grain,
        custom.seconds,
        custom.step,
        {{ headrace.hours_kept() }}::bigint as kept
    from models
    inner join {{ ref('custom_windows') }} as custom on models.model = custom.model
),

ends as (
    select
        model,
        {{ headrace.label_columns() | join(', ') }},
        window_name,
        grain,
        seconds,
        generate_series(
            case
                when first_second >= last_hour - kept then first_second
                else last_hour - kept + seconds - 1
            end / step * step + step,
            last_second / step * step + step,
            step
        ) as last_second
    from lengths
),

spans as (
    select
        model,
        {{ headrace.label_columns() | join(', ') }},
        window_name,
        grain,
        to_timestamp(last_second - seconds) as window_start,
        to_timestamp(last_second) as window_end
    from ends
)

select
    spans.window_name,
    spans.window_start,
    spans.window_end,
    spans.model,
    measured.*
from spans
cross join lateral (
    {{ body }}
) as measured
{%- endmacro %}

{% macro risingwave__windowed(body) %}{{ headrace.default__windowed(body) }}{% endmacro %}

{#-
  The panes of the window, a relation for FROM.

  fine  the finest grain of the pane, at most a minute
-#}
{% macro window_rows(relation, fine='1 minute') -%}
    {{ return(adapter.dispatch('window_rows', 'headrace')(relation, fine)) }}
{%- endmacro %}

{% macro default__window_rows(relation, fine) -%}
    (
        {%- for name, grain, length, step, kept in headrace.windows() %}
        {%- set first_end -%}
        floor(extract(epoch from panes.pane_start) / {{ step }})::bigint * {{ step }} + {{ step }}
        {%- endset %}
        {%- if not loop.first %}
        union all
        {%- endif %}
        select
            placed.*,
            to_timestamp(placed.last_second - {{ length }}) as window_start,
            to_timestamp(placed.last_second) as window_end
        from (
            select
                panes.*,
                {%- for column in headrace.label_columns() %}
                positive.{{ column }},
                {%- endfor %}
                '{{ name }}' as window_name,
                {{ length }}::bigint as seconds,
                {{ step }}::bigint as step,
                {%- if length > step %}
                generate_series(
                    {{ first_end }},
                    {{ first_end }} + {{ length - step }},
                    {{ step }}
                ) as last_second
                {%- else %}
                {{ first_end }} as last_second
                {%- endif %}
            from {{ relation }} as panes
            inner join {{ headrace.labels_told() }} as positive on panes.model = positive.model
            where panes.grain = '{{ grain or fine }}'
        ) as placed
        inner join {{ ref('model_clock') }} as clock
            on
                placed.model = clock.model
                and to_timestamp(placed.last_second - {{ step }}) <= clock.event_clock
                and (
                    to_timestamp(placed.last_second + {{ kept - length }})
                    >= {{ headrace.pane_start('1 hour', 'clock.event_clock') }}
                    or clock.first_event_time
                    >= {{ headrace.pane_start('1 hour', 'clock.event_clock') }}
                    - interval '{{ kept // 3600 }} hours'
                )
        {%- endfor %}
        union all
        select
            placed.*,
            to_timestamp(placed.last_second - placed.seconds) as window_start,
            to_timestamp(placed.last_second) as window_end
        from (
            select
                panes.*,
                {%- for name in headrace.label_columns() %}
                positive.{{ name }},
                {%- endfor %}
                custom.window_name,
                custom.seconds,
                custom.step,
                generate_series(
                    floor(extract(epoch from panes.pane_start) / nullif(custom.step, 0))::bigint
                    * custom.step + custom.step,
                    floor(extract(epoch from panes.pane_start) / nullif(custom.step, 0))::bigint
                    * custom.step + custom.seconds,
                    custom.step
                ) as last_second
            from {{ relation }} as panes
            inner join {{ headrace.labels_told() }} as positive on panes.model = positive.model
            inner join {{ ref('custom_windows') }} as custom on panes.model = custom.model
            where panes.grain = '1 hour'
        ) as placed
        inner join {{ ref('model_clock') }} as clock
            on
                placed.model = clock.model
                and to_timestamp(placed.last_second - placed.step) <= clock.event_clock
                and (
                    to_timestamp(
                        placed.last_second + {{ headrace.hours_kept() }} - placed.seconds
                    ) >= {{ headrace.pane_start('1 hour', 'clock.event_clock') }}
                    or clock.first_event_time
                    >= {{ headrace.pane_start('1 hour', 'clock.event_clock') }}
                    - interval '{{ (headrace.hours_kept() | int) // 3600 }} hours'
                )
    )
{%- endmacro %}

{% macro postgres__window_rows(relation, fine) -%}
    (
        select
            panes.*
            {%- for name in headrace.label_columns() %},
            spans.{{ name }}
            {%- endfor %}
        from {{ relation }} as panes
        where
            panes.model = spans.model
            and panes.grain = coalesce(spans.grain, '{{ fine }}')
            and panes.pane_start >= spans.window_start
            and panes.pane_start < spans.window_end
    )
{%- endmacro %}

{% macro risingwave__window_rows(relation, fine) -%}
    {{ headrace.default__window_rows(relation, fine) }}
{%- endmacro %}

{#- The columns that the body groups by. -#}
{% macro window_keys() -%}
    {{ return(adapter.dispatch('window_keys', 'headrace')()) }}
{%- endmacro %}

{% macro default__window_keys() -%}
    {{ return(['window_name', 'window_start', 'window_end', 'model']) }}
{%- endmacro %}

{% macro postgres__window_keys() -%}
    {{ return([]) }}
{%- endmacro %}

{% macro risingwave__window_keys() -%}
    {{ return(headrace.default__window_keys()) }}
{%- endmacro %}
