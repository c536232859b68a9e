{#-
  Start of the pane that a timestamp falls into. Panes are counted from 1970-01-01 00:00 UTC.

  grain  length of the pane: '10 seconds', '1 minute', '30 minutes', '1 hour' or '1 day'
-#}
{% macro pane_start(grain, timestamp) -%}
    {{ return(adapter.dispatch('pane_start', 'headrace')(grain, timestamp)) }}
{%- endmacro %}

{% macro default__pane_start(grain, timestamp) -%}
    {%- set length = '24 hours' if grain == '1 day' else grain -%}
    date_bin(interval '{{ length }}', {{ timestamp }}, '1970-01-01 00:00:00+00'::timestamptz)
{%- endmacro %}

{% macro postgres__pane_start(grain, timestamp) -%}
    {{ headrace.default__pane_start(grain, timestamp) }}
{%- endmacro %}

{% macro risingwave__pane_start(grain, timestamp) -%}
    {%- set seconds = {
        '10 seconds': 10, '1 minute': 60, '30 minutes': 1800, '1 hour': 3600, '1 day': 86400
    }[grain] -%}
    {%- set epoch = 'extract(epoch from ' ~ timestamp ~ ')::double precision' -%}
    to_timestamp(floor({{ epoch }} / {{ seconds }}) * {{ seconds }})
{%- endmacro %}
