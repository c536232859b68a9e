{#-
  Panes of deltas: the SELECT over new rows alone, merged into the stored rows by the key.

  sql          the SELECT over everything
  driver       the table or pane whose rows drive it, 'schema.table'
  rows         a query of those of its new_rows that count; none: all
  parallel, key, merge, retention, time_column
               options of the pane (pane.sql)
  measures     the columns that are no key
-#}

{% macro pane_of_deltas(
    sql, driver, rows, parallel, key, measures, merge, retention, time_column
) -%}
    {%- set schema, table = driver.split('.') -%}
    {%- set sql = headrace.without_database(sql) -%}
    {%- set source = api.Relation.create(schema=schema, identifier=table) | string -%}
    {%- if source not in sql -%}
        {{ exceptions.raise_compiler_error(
            'pane ' ~ this.identifier ~ ': its SQL does not read ' ~ driver
        ) }}
    {%- endif -%}
    {%- set new = sql | replace(source, '(' ~ rows ~ ')' if rows else 'new_rows') -%}
    {%- set old = sql | replace(source, 'old_rows') -%}
    {%- if parallel %}
    {%- set body %}
        delta := array(
            select row(made.*)::{{ this.include(database=false) }} from ({{ new }}) as made
        );
        lock table locks.turn in exclusive mode;
        {{ headrace.pane_merge(
            'select * from unnest(delta)', key, measures, merge, retention, time_column
        ) }}
    {%- endset %}
    {{ headrace.pane_trigger(driver, 'insert', body, parallel=true) }}
    {%- else %}
    {{ headrace.pane_trigger(
        driver, 'insert', headrace.pane_merge(new, key, measures, merge, retention, time_column)
    ) }}
    {%- endif %}
    {%- if schema == this.schema %}
    {%- for operation, added in [('update', new), ('delete', none)] %}
    {%- set delta = headrace.pane_difference(added, old, key, measures, merge) %}
    {{ headrace.pane_trigger(
        driver, operation,
        headrace.pane_merge(delta, key, measures, merge, retention, time_column)
    ) }}
    {%- endfor %}
    {%- endif -%}
{%- endmacro %}


{#-
  The delta of an update or a delete: new rows, if any, minus old ones. `x - x - x` is the negative
  of x, also where x is a vector.
-#}
{% macro pane_difference(new, old, key, measures, merge) -%}
    {%- set keys = key | join(', ') -%}
    select
        {{ keys }}
        {%- for name in measures %},
        {{ merge.get(name, 'sum') }}({{ name }}) as {{ name }}
        {%- endfor %}
    from (
        {%- if new %}
        select {{ keys }}, {{ measures | join(', ') }} from ({{ new }}) as added
        union all
        {%- endif %}
        select {{ keys }}
        {%- for name in measures %},
        {{ 'null' if name in merge else name ~ ' - ' ~ name ~ ' - ' ~ name }} as {{ name }}
        {%- endfor %}
        from ({{ old }}) as removed
    ) as changed
    group by {{ keys }}
{%- endmacro %}


{#- Merges a delta into the stored rows. -#}
{% macro pane_merge(delta, key, measures, merge, retention, time_column) -%}
    {%- set columns = (key + measures) | join(', ') -%}
    insert into {{ this.include(database=false) }} as stored ({{ columns }})
    select {{ columns }} from ({{ delta }}) as delta
    where {{ headrace.pane_kept('delta', retention, time_column) }}
    on conflict ({{ key | join(', ') }}) do update set
    {%- for name in measures %}
        {%- set how = {'min': 'least', 'max': 'greatest'}.get(merge.get(name)) %}
        {{ name }} = {% if how -%}
            {{ how }}(stored.{{ name }}, excluded.{{ name }})
        {%- else -%}
            stored.{{ name }} + excluded.{{ name }}
        {%- endif %}{{ ',' if not loop.last }}
    {%- endfor %};
{%- endmacro %}
