{#-
  Panes of deltas: the SELECT over new rows alone, merged into the stored rows by the key.

  sql          the SELECT over everything
  driver       the table or pane whose rows drive it, 'schema.table'
  rows         a query of those of its new_rows that count; none: all
  drivers      all drivers, where the SELECT reads each in a part of its own; else none
  parallel, key, merge, retention, time_column, most
               options of the pane (pane.sql)
  measures     the columns that are no key
-#}

{% macro pane_of_deltas(
    sql, driver, rows, parallel, drivers, key, measures, merge, retention, time_column, most
) -%}
    {%- set schema, table = driver.split('.') -%}
    {%- set sql = headrace.without_database(sql) -%}
    {%- set source = api.Relation.create(schema=schema, identifier=table) | string -%}
    {%- if source not in sql -%}
        {{ exceptions.raise_compiler_error(
            'pane ' ~ this.identifier ~ ': its SQL does not read ' ~ driver
        ) }}
    {%- endif -%}
    {%- set parts = namespace(sql=sql) -%}
    {%- for other in drivers if other != driver -%}
        {%- set relation = api.Relation.create(
            schema=other.split('.')[0], identifier=other.split('.')[1]
        ) | string -%}
        {%- set parts.sql = parts.sql | replace(
            relation, '(select * from ' ~ relation ~ ' where false)'
        ) -%}
    {%- endfor -%}
    {%- set new = parts.sql | replace(source, '(' ~ rows ~ ')' if rows else 'new_rows') -%}
    {%- set old = parts.sql | replace(source, 'old_rows') -%}
    {%- if parallel %}
    {%- set body %}
        delta := array(
            select row(made.*)::{{ this.include(database=false) }} from ({{ new }}) as made
        );
        lock table locks.turn in exclusive mode;
        {{ headrace.pane_merge(
            'select * from unnest(delta)', key, measures, merge, retention, time_column, most
        ) }}
    {%- endset %}
    {{ headrace.pane_trigger(driver, 'insert', body, parallel=true) }}
    {%- else %}
    {{ headrace.pane_trigger(
        driver, 'insert',
        headrace.pane_merge(new, key, measures, merge, retention, time_column, most)
    ) }}
    {%- endif %}
    {%- if schema == this.schema %}
    {%- set delta = headrace.pane_difference(new, old, key, measures, merge) %}
    {{ headrace.pane_trigger(
        driver, 'update', headrace.pane_merge(delta, key, measures, merge, retention, time_column)
    ) }}
    {%- if headrace.pane_loses_rows(table) %}
    {%- set delta = headrace.pane_difference(none, old, key, measures, merge) %}
    {{ headrace.pane_trigger(
        driver, 'delete', headrace.pane_merge(delta, key, measures, merge, retention, time_column)
    ) }}
    {%- endif %}
    {%- endif -%}
{%- endmacro %}


{#- Whether rows of a pane can disappear, other than by its retention. -#}
{% macro pane_loses_rows(pane) -%}
    {%- set found = graph.nodes.values() | selectattr('resource_type', 'equalto', 'model')
        | selectattr('name', 'equalto', pane) | list -%}
    {{ return((found[0].config.get('deletes') or []) | length > 0) }}
{%- endmacro %}


{#-
  The delta of an update: new rows, if any, minus old ones. `x - x - x` is the negative of x, also
  where x is a vector.
-#}
{% macro pane_difference(new, old, key, measures, merge) -%}
    {%- set keys = key | join(', ') -%}
    select
        {{ keys }}
        {%- for name in measures %},
        {{ headrace.pane_aggregate(name, merge) }}
        {%- endfor %}
    from (
        {%- if new %}
        select {{ keys }}, {{ measures | join(', ') }} from ({{ new }}) as added
        union all
        {%- endif %}
        select {{ keys }}
        {%- for name in measures %},
        {{ 'nullif(' ~ name ~ ', ' ~ name ~ ')' if merge.get(name) in ['min', 'max']
            else name ~ ' - ' ~ name ~ ' - ' ~ name }} as {{ name }}
        {%- endfor %}
        from ({{ old }}) as removed
    ) as changed
    group by {{ keys }}
{%- endmacro %}


{#- Several rows of a measure as one. -#}
{% macro pane_aggregate(name, merge) -%}
    {{ {'min': 'min', 'max': 'max'}.get(merge.get(name), 'sum') }}({{ name }}) as {{ name }}
{%- endmacro %}


{#- Two values of a measure as one. -#}
{% macro pane_merged(x, y, how) -%}
    {%- if how == 'min' -%}
        least({{ x }}, {{ y }})
    {%- elif how == 'max' -%}
        greatest({{ x }}, {{ y }})
    {%- elif how == 'blocks' -%}
        {%- set known = 'coalesce(' ~ x ~ ', ' ~ y ~ ')' -%}
        nullif(coalesce({{ x }} + {{ y }}, {{ known }}), {{ known }} - {{ known }})
    {%- else -%}
        {{ x }} + {{ y }}
    {%- endif -%}
{%- endmacro %}


{#-
  Merges a delta into the stored rows. What is new of a column of which a pane keeps the `most` is
  folded afterwards.
-#}
{% macro pane_merge(delta, key, measures, merge, retention, time_column, most={}) -%}
    {%- set columns = (key + measures) | join(', ') -%}
    {%- if most %}
    with merged as (
    {%- endif %}
    insert into {{ this.include(database=false) }} as stored ({{ columns }})
    select {{ columns }} from ({{ delta }}) as delta
    where {{ headrace.pane_kept('delta', retention, time_column) }}
    on conflict ({{ key | join(', ') }}) do update set
    {%- for name in measures %}
        {{ name }} = {{ headrace.pane_merged(
            'stored.' ~ name, 'excluded.' ~ name, merge.get(name)
        ) }}{{ ',' if not loop.last }}
    {%- endfor %}
    {%- if most %}
    {#- A row that was updated has the transaction that locked it for that. #}
    {%- set is_new = 'stored.xmax = 0 and stored.' ~ most.keys() | first ~ ' is not null' %}
    returning {{ is_new }} as is_new, case when {{ is_new }} then stored end as row_of_pane
    )
    select array_agg(row_of_pane) into begun from merged where is_new;
    if begun is not null then
        {{- headrace.pane_fold(key, measures, merge, retention, time_column, most) }}
    end if
    {%- endif %};
{%- endmacro %}
