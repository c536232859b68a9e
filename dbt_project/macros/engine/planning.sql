{#- Hints to PostgreSQL's planner. RisingWave has none, and needs none. -#}

{#-
  Ends a subquery that PostgreSQL must not merge into the query around it: there, an expression that
  it computes once would be computed at every mention.
-#}
{% macro fence() -%}
    {{ return(adapter.dispatch('fence', 'headrace')()) }}
{%- endmacro %}

{% macro default__fence() %}{% endmacro %}

{% macro postgres__fence() %}offset 0{% endmacro %}

{% macro risingwave__fence() %}{% endmacro %}

{#- `as`, for a CTE that is read twice and should be planned into both places. -#}
{% macro as_inlined() -%}
    {{ return(adapter.dispatch('as_inlined', 'headrace')()) }}
{%- endmacro %}

{% macro default__as_inlined() %}as{% endmacro %}

{% macro postgres__as_inlined() %}as not materialized{% endmacro %}

{% macro risingwave__as_inlined() %}as{% endmacro %}

{#-
  `as`, for a CTE that is read once and must be computed once. PostgreSQL would inline it, and then
  run it again for every row that it is joined to, or plan it again at every level above.
-#}
{% macro as_materialized() -%}
    {{ return(adapter.dispatch('as_materialized', 'headrace')()) }}
{%- endmacro %}

{% macro default__as_materialized() %}as{% endmacro %}

{% macro postgres__as_materialized() %}as materialized{% endmacro %}

{% macro risingwave__as_materialized() %}as{% endmacro %}
