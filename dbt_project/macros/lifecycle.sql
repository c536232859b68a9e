{#-
  The one order of what happened to versions: by event time; at the same instant as a life goes, so
  that what puts a version in its place comes before what takes it out again; then by id.
  direction  'asc' or 'desc'
  events     name of the relation with event_time, event and event_id, where it needs one
-#}
{% macro life_order(direction='asc', events=none) -%}
    {%- set of = events ~ '.' if events else '' -%}
    {{ of }}event_time {{ direction }},
                {{ headrace.life_step(of ~ 'event') }} {{ direction }},
                {{ of }}event_id {{ direction }}
{%- endmacro %}

{#- How far in a version's life a step is; events without a place in it would come first. -#}
{% macro life_step(event) -%}
    case {{ event }}
    {%- for step in [
        'trained', 'shadow', 'canary', 'promoted', 'rejected', 'rolled_back', 'retired'
    ] %} when '{{ step }}' then {{ loop.index }}{% endfor %} else 0 end
{%- endmacro %}
