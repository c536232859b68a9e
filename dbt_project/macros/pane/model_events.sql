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

{#- A time in the metrics, in seconds since 1970, up to the year 3000; else null. -#}
{% macro metric_time(name, metrics='metrics') -%}
    case
        when {{ headrace.metric_number(name, metrics) }} between 0 and 32503680000
            then to_timestamp({{ headrace.metric_number(name, metrics) }})
    end
{%- endmacro %}
