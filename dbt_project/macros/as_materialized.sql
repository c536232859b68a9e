{#-
  `as`, for a CTE that is read once and must be computed once: PostgreSQL would plan it into its
  reader, to run again for every row that it is joined to, or to be planned at every level above.
-#}
{% macro as_materialized() -%}
    {{ return(adapter.dispatch('as_materialized', 'headrace')()) }}
{%- endmacro %}

{% macro default__as_materialized() %}as{% endmacro %}

{% macro postgres__as_materialized() %}as materialized{% endmacro %}

{% macro risingwave__as_materialized() %}as{% endmacro %}
