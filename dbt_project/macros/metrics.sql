{#-
  Numbers in the metrics of a model event. Anybody may write those, so whatever is no number, or no
  time, reads as null instead of breaking the view for every model.
-#}
{% macro metric_number(name, metrics='metrics') -%}
    case
        when jsonb_typeof({{ metrics }} -> '{{ name }}') = 'number'
            then ({{ metrics }} ->> '{{ name }}')::double precision
    end
{%- endmacro %}

{#- A time given in seconds since 1970, up to the year 3000. -#}
{% macro metric_time(name, metrics='metrics') -%}
    case
        when {{ headrace.metric_number(name, metrics) }} between 0 and 32503680000
            then to_timestamp({{ headrace.metric_number(name, metrics) }})
    end
{%- endmacro %}
