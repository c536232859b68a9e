{#- Macros of dbt itself that this project replaces. -#}

{#-
  A model's schema is exactly the one it names: `headrace.retrain_trigger` has that name everywhere.
-#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ (custom_schema_name or target.schema) | trim }}
{%- endmacro %}

{#-
  The columns of a relation with their types. dbt-postgres calls every type of an extension
  USER-DEFINED and every array ARRAY, and no unit test can cast to these; here they have their own
  names.
-#}
{% macro postgres__get_columns_in_relation(relation) -%}
    {% call statement('get_columns_in_relation', fetch_result=True) %}
        select
            column_name,
            case
                when data_type in ('USER-DEFINED', 'ARRAY') then udt_name else data_type
            end as data_type,
            character_maximum_length,
            numeric_precision,
            numeric_scale
        from {{ relation.information_schema('columns') }}
        where table_name = '{{ relation.identifier }}'
        {%- if relation.schema %}
        and table_schema = '{{ relation.schema }}'
        {%- endif %}
        order by ordinal_position
    {% endcall %}
    {{ return(sql_convert_columns_in_relation(load_result('get_columns_in_relation').table)) }}
{%- endmacro %}
