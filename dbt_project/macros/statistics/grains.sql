{#-
  Minute panes are kept for two days, so a window is read by the minute or, where it begins earlier,
  by the hour.
-#}

{#- From when on minute panes are kept. -#}
{% macro minutes_kept_from(event_clock) -%}
    {{ headrace.pane_start('1 hour', event_clock) }} - interval '48 hours'
{%- endmacro %}

{#- '1 hour' or '1 minute': the finest grain that is kept of a window. -#}
{% macro kept_grain(window_start, minutes_from) -%}
    case when {{ window_start }} < {{ minutes_from }} then '1 hour' else '1 minute' end
{%- endmacro %}

{#- Start of the pane of a `grain`, a column of kept_grain, that a timestamp falls into. -#}
{% macro kept_pane(grain, timestamp) -%}
    case
            when {{ grain }} = '1 hour' then {{ headrace.pane_start('1 hour', timestamp) }}
            else {{ headrace.pane_start('1 minute', timestamp) }}
        end
{%- endmacro %}

{#- Start of the pane after that one. -#}
{% macro next_kept_pane(grain, timestamp) -%}
    case
            when {{ grain }} = '1 hour'
                then {{ headrace.pane_start('1 hour', timestamp) }} + interval '1 hour'
            else {{ headrace.pane_start('1 minute', timestamp) }} + interval '1 minute'
        end
{%- endmacro %}
