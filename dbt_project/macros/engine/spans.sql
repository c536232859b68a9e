{#-
  Measures every model over its own span of time. A CTE `spans` has one row a model, and a subquery
  reads what falls into it:

      with spans as (select model, ... as window_start from ...)

      select spans.model, measured.predictions
      from spans
      left join {{ lateral() }} (
          select span.model, count(*) as predictions
          from {{ span(['model', 'window_start']) }} as span
          inner join a_pane on span.model = a_pane.model and span.window_start <= a_pane.pane_start
          group by span.model
      ) as measured on spans.model = measured.model

  PostgreSQL runs the subquery once for each model that is asked for, with its span known, and can
  use the index on (model, ...). RisingWave joins and groups once for all models.
-#}

{% macro lateral() -%}
    {{ return(adapter.dispatch('lateral', 'headrace')()) }}
{%- endmacro %}

{% macro default__lateral() %}{% endmacro %}

{% macro postgres__lateral() %}lateral{% endmacro %}

{% macro risingwave__lateral() %}{{ headrace.default__lateral() }}{% endmacro %}

{#-
  The span of the current model, as seen from inside the subquery: a relation for FROM.

  columns  the columns of `spans` that the subquery needs
-#}
{% macro span(columns) -%}
    {{ return(adapter.dispatch('span', 'headrace')(columns)) }}
{%- endmacro %}

{% macro default__span(columns) %}spans{% endmacro %}

{% macro postgres__span(columns) -%}
    (select spans.{{ columns | join(', spans.') }})
{%- endmacro %}

{% macro risingwave__span(columns) %}{{ headrace.default__span(columns) }}{% endmacro %}

{#-
  Ends a subquery that numbers its rows by `ordering` and of which only the first `most` are used,
  so that PostgreSQL stops reading there.
-#}
{% macro no_more_than(most, ordering) -%}
    {{ return(adapter.dispatch('no_more_than', 'headrace')(most, ordering)) }}
{%- endmacro %}

{% macro default__no_more_than(most, ordering) %}{% endmacro %}

{% macro postgres__no_more_than(most, ordering) -%}
    order by {{ ordering }}
    limit {{ most }}
{%- endmacro %}

{% macro risingwave__no_more_than(most, ordering) -%}
    {{ headrace.default__no_more_than(most, ordering) }}
{%- endmacro %}
