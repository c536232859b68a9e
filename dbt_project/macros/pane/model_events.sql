{#- Reading model events: the order of a version's steps, and numbers in their metrics. -#}

{#-
  The order of what happened to versions: by event time; at the same instant in the order of a
  version's life, so that a step that puts a version into a role precedes the one that takes it out;
  then by id.

  direction  'asc' or 'desc'
  events     name of the relation with event_time, event and event_id, where one is needed
-#}
{% macro life_order(direction='asc', events=none) -%}
    {%- set of = events ~ '.' if events else '' -%}
    {{ of }}event_time {{ direction }},
                {{ headrace.life_step(of ~ 'event') }} {{ direction }},
                {{ of }}event_id {{ direction }}
{%- endmacro %}

{#- The place of a step in a version's life, from 1; unknown events have 0. -#}
{% macro life_step(event) -%}
    case {{ event }}
    {%- for step in [
        'trained', 'shadow', 'canary', 'promoted', 'rejected', 'rolled_back', 'retired'
    ] %} when '{{ step }}' then {{ loop.index }}{% endfor %} else 0 end
{%- endmacro %}

{#-
  A number in the metrics of a model event. Any program may write those, so a value of another type
  reads as null instead of breaking the view for every model.
-#}
{% macro metric_number(name, metrics='metrics') -%}
    case
        when jsonb_typeof({{ metrics }} -> '{{ name }}') = 'number'
            then ({{ metrics }} ->> '{{ name }}')::double precision
    end
{%- endmacro %}

{#-
  A time in the metrics, up to the year 3000: in seconds since 1970, or as a text such as
  2024-05-01T12:00:00Z, in UTC where it has no offset; else null.
-#}
{% macro metric_time(name, metrics='metrics') -%}
    {%- set text = '(' ~ metrics ~ " ->> '" ~ name ~ "')" -%}
    {%- set offset = '(Z|[+-][0-9]{2}:[0-9]{2})' -%}
    {%- set day = '(19[7-9]|2[0-9]{2})[0-9]-[0-9]{2}-[0-9]{2}' -%}
    {%- set whole -%}
        ({{ text }} || case when length({{ text }}) = 10 then ' 00:00' else '' end
        || case when {{ text }} ~ '{{ offset }}$' then '' else '+00:00' end)
    {%- endset -%}
    case
        when {{ headrace.metric_number(name, metrics) }} between 0 and 32503680000
            then to_timestamp({{ headrace.metric_number(name, metrics) }})
        when
            {{ text }} ~ '^{{ day }}([T ][0-9:.]{5,15}{{ offset }}?)?$'
            and {{ headrace.is_timestamp(whole) }}
            then {{ whole }}::timestamptz
    end
{%- endmacro %}

{#- Whether a text can be cast to a timestamp; on RisingWave a cast that fails is null. -#}
{% macro is_timestamp(x) -%}
    {{ return(adapter.dispatch('is_timestamp', 'headrace')(x)) }}
{%- endmacro %}

{% macro default__is_timestamp(x) -%} true {%- endmacro %}

{% macro postgres__is_timestamp(x) -%}
    pg_input_is_valid({{ x }}, 'timestamptz')
{%- endmacro %}

{% macro risingwave__is_timestamp(x) %}{{ headrace.default__is_timestamp(x) }}{% endmacro %}

{#- A label in the metrics, as a class. -#}
{% macro metric_label(name, metrics='metrics') -%}
    case
        when jsonb_typeof({{ metrics }} -> '{{ name }}') = 'number'
            then {{ headrace.number_text('(' ~ headrace.metric_number(name, metrics) ~ ')') }}
        else {{ headrace.class_of('(' ~ metrics ~ " ->> '" ~ name ~ "')") }}
    end
{%- endmacro %}
