{#-
  What keeps answers apart from the time zone of the session that asks: there a day or a month may
  be an hour shorter or longer where clocks change. Spans are of hours, minutes and seconds.
-#}

{#- An interval as a fixed length: a day has 24 hours, a month 30 days, a year 365.25 days. -#}
{% macro fixed_length(interval) -%}
    extract(epoch from {{ interval }})::double precision * interval '1 second'
{%- endmacro %}

{#- A time as text, in UTC. -#}
{% macro utc_text(timestamp, format='YYYY-MM-DD HH24:MI') -%}
    to_char({{ timestamp }} at time zone 'UTC', '{{ format }}')
{%- endmacro %}
