{#-
  Panes have grains: a short one (10 seconds or 1 minute) that is kept for two days behind the
  model's clock, and hours that are kept for 400 days. A view reads a span by the minute where
  minutes are kept, and by the hour elsewhere.
-#}

{#-
  Start of the pane that a timestamp falls into. Panes are counted from 1970-01-01 00:00 UTC.

  grain  length of the pane: '10 seconds', '1 minute', '30 minutes', '1 hour' or '1 day'
-#}
{% macro pane_start(grain, timestamp) -%}
    {{ return(adapter.dispatch('pane_start', 'headrace')(grain, timestamp)) }}
{%- endmacro %}

{% macro default__pane_start(grain, timestamp) -%}
    date_bin(interval '{{ grain }}', {{ timestamp }}, '1970-01-01 00:00:00+00'::timestamptz)
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

{#-
  The time from which panes of a minute are kept whole.

  event_clock  the model's clock
-#}
{% macro minutes_from(event_clock) -%}
    {{ headrace.pane_start('1 hour', event_clock) }} - interval '2 days'
{%- endmacro %}

{#- The grain in which panes from a time on are read: '1 minute' where those are kept. -#}
{% macro grain_at(time, minutes_from) -%}
    case when {{ time }} < {{ minutes_from }} then '1 hour' else '1 minute' end
{%- endmacro %}

{#-
  Start of the pane of either grain that a timestamp falls into.

  grain      a column: '1 hour' or '1 minute'
  following  whether the start of the pane after it is meant
-#}
{% macro pane_at(grain, timestamp, following=false) -%}
    {%- set next = ' + interval ' if following else none -%}
    case
        when {{ grain }} = '1 hour'
            then {{ headrace.pane_start('1 hour', timestamp) }}{{ next ~ "'1 hour'" if next }}
        else {{ headrace.pane_start('1 minute', timestamp) }}{{ next ~ "'1 minute'" if next }}
    end
{%- endmacro %}
