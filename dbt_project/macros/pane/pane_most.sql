{#-
  The bound on what a pane keeps of a column, `most={'category': 256}`: without it, strings that
  never come twice would make a row each.

  A pane keeps, of each group (the other columns of the key), the categories with the smallest
  hashes, each with its measures, and in a row whose category is null those of all the rest: a
  bottom-k sketch (Cohen, Kaplan 2007) without its estimates, as counts are exact. A category that
  is among the k smallest in the end was among them whenever it came, so the rows are the same in
  any order of events and any split into batches: those that the SELECT over everything, folded,
  has. Which categories a group keeps depends on none of its counts, so the kept ones are a random
  sample of all; and panes that are added up keep the same ones up to the least of their thresholds
  (compared_categories.sql).

  A batch is folded before it is merged. Afterwards panes in which it began a row are folded again,
  so that events of known categories pay nothing.

  On RisingWave a pane keeps all: the ranks would be computed again for every category that comes.
-#}

{#- How many categories of a feature, or predicted classes, a pane keeps. -#}
{% macro most_categories() %}{{ return(256) }}{% endmacro %}

{#- What decides which categories are kept: evenly distributed, and without any order of words. -#}
{% macro category_hash(category) -%}
    {{ headrace.in_bytes('md5(' ~ category ~ ')') }}
{%- endmacro %}

{#- The place of a row's category in its group; categories of one hash share it. -#}
{% macro pane_place(key, category) -%}
    rank() over (
        partition by {{ key | reject('equalto', category) | join(', ') }}
        order by {{ headrace.category_hash(category) }}
    )
{%- endmacro %}

{#-
  The SELECT of a pane, folded; what has no more rows than that has nothing to fold.

  sql      the SELECT
  columns  its columns
-#}
{% macro pane_folded(sql, columns, key, merge, most) -%}
    {%- set category, k = (most.items() | list)[0] -%}
    {%- set many = '(select count(*) from everything) > ' ~ k -%}
    with everything as materialized (
        {{ sql }}
    )

    select {{ columns | join(', ') }} from everything
    where not {{ many }}
    union all
    select
        {%- for name in columns %}
        {% if name == category -%}
            case when place <= {{ k }} then {{ name }} end as {{ name }}
        {%- elif name in key -%}
            {{ name }}
        {%- else -%}
            {{ headrace.pane_aggregate(name, merge) }}
        {%- endif %}{{ ',' if not loop.last }}
        {%- endfor %}
    from (
        select
            *,
            {{ headrace.pane_place(key, category) }} as place
        from everything
        where {{ many }}
    ) as placed
    group by
        {{ key | reject('equalto', category) | join(', ') }},
        case when place <= {{ k }} then {{ category }} end
{%- endmacro %}

{#- Folds the stored rows of the panes in which rows `begun`. -#}
{% macro pane_fold(key, measures, merge, retention, time_column, most) -%}
    {%- set category, k = (most.items() | list)[0] -%}
    {%- set pane = this.include(database=false) -%}
    {%- set pane_of = key | select('in', ['model', 'grain', time_column]) | list %}
    with placed as (
        select
            stored.ctid as id,
            {{ headrace.pane_place(key, category) | indent(8) }} as place
        from {{ pane }} as stored
        inner join (
            select distinct {{ pane_of | join(', ') }} from unnest(begun)
        ) as panes using ({{ pane_of | join(', ') }})
        where {{ category }} is not null
    ),

    folded as (
        delete from {{ pane }} as stored using placed
        where stored.ctid = placed.id and placed.place > {{ k }}
        returning stored.*
    )
    {% set others -%}
        select
            {%- for name in key %}
            {{ 'null as ' if name == category }}{{ name }},
            {%- endfor %}
            {%- for name in measures %}
            {{ headrace.pane_aggregate(name, merge) }}{{ ',' if not loop.last }}
            {%- endfor %}
        from folded
        group by {{ key | reject('equalto', category) | join(', ') }}
    {%- endset -%}
    {{ headrace.pane_merge(others, key, measures, merge, retention, time_column) }}
{%- endmacro %}
