{#-
  A query of the newest pane of each model: model, pane_start (null where there is none).

  panes      a relation with model and pane_start
  condition  on its columns: which panes count; name the columns that lead its key

  PostgreSQL reads the end of the key's index once a model, however long the history is.
-#}
{% macro newest_pane(panes, condition) -%}
    {{ return(adapter.dispatch('newest_pane', 'headrace')(panes, condition)) }}
{%- endmacro %}

{% macro default__newest_pane(panes, condition) -%}
    select
        model,
        max(pane_start) as pane_start
    from {{ panes }}
    where {{ condition }}
    group by model
{%- endmacro %}

{% macro postgres__newest_pane(panes, condition) -%}
    select
        clock.model,
        (
            select max(panes.pane_start) from {{ panes }} as panes
            where panes.model = clock.model and {{ condition }}
        ) as pane_start
    from {{ ref('model_clock') }} as clock
{%- endmacro %}

{% macro risingwave__newest_pane(panes, condition) -%}
    {{ headrace.default__newest_pane(panes, condition) }}
{%- endmacro %}
