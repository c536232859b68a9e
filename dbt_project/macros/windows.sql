{#-
  The windows of model_performance: name, the grain of panes they are made of, length and step.
  A pane belongs to length / step windows, numbered by `place`.
-#}
{% macro windows() -%}
    {{ return([
        ('1 minute', '10 seconds', 60, 60),
        ('5 minutes', '10 seconds', 300, 10),
        ('1 hour', '10 seconds', 3600, 3600),
        ('1 day', '1 hour', 86400, 86400),
        ('30 days', '1 hour', 2592000, 86400),
    ]) }}
{%- endmacro %}

{#-
  A CTE body that puts every pane of `relation` into each window that it belongs to, adding
  window_name, window_start and window_end. A window is [start, end), its end a multiple of step
  since 1970-01-01.
-#}
{% macro in_windows(relation, columns) -%}
    {%- for name, grain, length, step in headrace.windows() %}
    {%- if not loop.first %}
    union all
    {%- endif %}
    select
        '{{ name }}' as window_name,
        to_timestamp(last_end - {{ length }}) as window_start,
        to_timestamp(last_end) as window_end,
        {{ columns | join(', ') }}
    from (
        select
            floor(extract(epoch from pane_start) / {{ step }}) * {{ step }} + {{ step }}
            {%- if length > step %}
            + generate_series(0, {{ length // step - 1 }}) * {{ step }}
            {%- endif %} as last_end,
            {{ columns | join(', ') }}
        from {{ relation }}
        where grain = '{{ grain }}'
    ) as placed_{{ loop.index }}
    {%- endfor %}
{%- endmacro %}

{#-
  `as`, for a CTE that is read twice and should be planned into both places: the planner knows
  nothing of a materialized one and may join it by nested loops.
-#}
{% macro as_inlined() -%}
    {{ return(adapter.dispatch('as_inlined', 'headrace')()) }}
{%- endmacro %}

{% macro default__as_inlined() %}as not materialized{% endmacro %}

{% macro postgres__as_inlined() %}as not materialized{% endmacro %}

{% macro risingwave__as_inlined() %}as{% endmacro %}
