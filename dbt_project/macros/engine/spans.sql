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
  spans    the CTE, where it has another name
-#}
{% macro span(columns, spans='spans') -%}
    {{ return(adapter.dispatch('span', 'headrace')(columns, spans)) }}
{%- endmacro %}

{% macro default__span(columns, spans) %}{{ spans }}{% endmacro %}

{% macro postgres__span(columns, spans) -%}
    (select {{ spans }}.{{ columns | join(', ' ~ spans ~ '.') }})
{%- endmacro %}

{% macro risingwave__span(columns, spans) %}{{ headrace.default__span(columns, spans) }}{% endmacro %}

{#-
  The relation for FROM, where only keys are read of `spans`: they are columns of {{ spans }} on both
  engines, and what the subquery (the body of a call block) adds is named without a relation.
-#}
{% macro each_of(spans) -%}
    {{ return(adapter.dispatch('each_of', 'headrace')(spans, caller())) }}
{%- endmacro %}

{% macro default__each_of(spans, body) %}({{ body }}) as {{ spans }}{% endmacro %}

{% macro postgres__each_of(spans, body) -%}
    {{ spans }} cross join lateral ({{ body }}) as found
{%- endmacro %}

{% macro risingwave__each_of(spans, body) %}{{ headrace.default__each_of(spans, body) }}{% endmacro %}

{#-
  `partition by` in such a subquery, which PostgreSQL runs for one row: there it would sort what
  comes sorted.
-#}
{% macro of_each(keys) -%}
    {{ return(adapter.dispatch('of_each', 'headrace')(keys)) }}
{%- endmacro %}

{% macro default__of_each(keys) %}partition by {{ keys | join(', ') }}{% endmacro %}

{% macro postgres__of_each(keys) %}{% endmacro %}

{% macro risingwave__of_each(keys) %}{{ headrace.default__of_each(keys) }}{% endmacro %}

{#-
  Ends a subquery of which only the first `most` rows by `ordering` are used (the query around it
  sees to that on RisingWave), so that PostgreSQL stops reading there.
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
