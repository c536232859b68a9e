{#- A model's schema is the one it names: `headrace.retrain_trigger` is the same everywhere. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ (custom_schema_name or target.schema) | trim }}
{%- endmacro %}
