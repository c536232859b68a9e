{#-
  Writes the descriptions in a model's .yml to the database, as comments on the relation and its
  columns (PostgreSQL).
-#}
{% macro described() -%}
    {%- set meanings = {} -%}
    {%- for name, column in model.columns.items() if column.description -%}
        {%- do meanings.update({name: column.description | trim}) -%}
    {%- endfor -%}
    select control.describe(
        '{{ this.include(database=false) }}',
        '{{ model.description | trim | replace("'", "''") }}',
        '{{ tojson(meanings) | replace("'", "''") }}'
    );
{%- endmacro %}
