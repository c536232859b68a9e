{#-
  Categories of several panes, compared as far as all of them keep them apart (pane_most.sql): beyond
  the least of their thresholds a category that one pane keeps is among the others of the next. On
  RisingWave panes keep all.
-#}

{#-
  A CTE, and the comma after it: `by`, and as `threshold` the hash up to which all panes keep
  categories apart, where one has as many as it may.

  relation  a CTE or table with the rows of the panes
  by        columns of what is compared
  pane      columns that, with `by`, name a group of a pane
  category  the column of which a pane keeps the most
-#}
{% macro category_thresholds(name, relation, by, pane, category) -%}
    {{ return(adapter.dispatch('category_thresholds', 'headrace')(
        name, relation, by, pane, category
    )) }}
{%- endmacro %}

{% macro default__category_thresholds(name, relation, by, pane, category) -%}
    {{ name }} as (
        select
            {{ by | join(', ') }},
            min(threshold) as threshold
        from (
            select
                {{ by | join(', ') }},
                max({{ headrace.category_hash(category) }}) as threshold
            from {{ relation }}
            where {{ category }} is not null
            group by {{ (by + pane) | join(', ') }}
            having count(*) >= {{ headrace.most_categories() }}
        ) as full_panes
        group by {{ by | join(', ') }}
    ),
{%- endmacro %}

{% macro postgres__category_thresholds(name, relation, by, pane, category) -%}
    {{ headrace.default__category_thresholds(name, relation, by, pane, category) }}
{%- endmacro %}

{% macro risingwave__category_thresholds(name, relation, by, pane, category) %}{% endmacro %}

{#- The join of a relation with these thresholds. -#}
{% macro join_thresholds(name, relation, by) -%}
    {{ return(adapter.dispatch('join_thresholds', 'headrace')(name, relation, by)) }}
{%- endmacro %}

{% macro default__join_thresholds(name, relation, by) -%}
    left join {{ name }}
        on
            {%- for column in by %}
            {{ relation }}.{{ column }} = {{ name }}.{{ column }}{{ ' and' if not loop.last }}
            {%- endfor %}
{%- endmacro %}

{% macro postgres__join_thresholds(name, relation, by) -%}
    {{ headrace.default__join_thresholds(name, relation, by) }}
{%- endmacro %}

{% macro risingwave__join_thresholds(name, relation, by) %}{% endmacro %}

{#- A category, or null where it counts among the others, of a relation joined with thresholds. -#}
{% macro compared_category(category, name) -%}
    {{ return(adapter.dispatch('compared_category', 'headrace')(category, name)) }}
{%- endmacro %}

{% macro default__compared_category(category, name) -%}
    case
            when
                {{ name }}.threshold is null
                or {{ headrace.category_hash(category) }} <= {{ name }}.threshold
                then {{ category }}
        end
{%- endmacro %}

{% macro postgres__compared_category(category, name) -%}
    {{ headrace.default__compared_category(category, name) }}
{%- endmacro %}

{% macro risingwave__compared_category(category, name) %}{{ category }}{% endmacro %}
