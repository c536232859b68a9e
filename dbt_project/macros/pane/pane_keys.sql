{#-
  Panes that are recomputed: the SELECT over everything, for the keys that new rows touch.

  sql          the SELECT over everything
  driver       the table whose rows drive it, 'schema.table'. One in the schema `control` may also
               be updated, and rows may be deleted from it
  touched      a query of the keys that its new_rows touch
  deleted      a query of those of them whose stored rows are deleted first; none: of none
  key, retention, time_column
               options of the pane (pane.sql)
  measures     the columns that are no key
-#}
{% macro pane_of_keys(
    sql, driver, touched, deleted, key, measures, retention, time_column
) -%}
    {%- set sql = headrace.without_database(sql) -%}
    {%- set columns = (key + measures) | join(', ') -%}
    {%- set body %}
        touched := array({{ touched }});
        if cardinality(touched) > 0 then
            {%- if deleted %}
            delete from {{ this.include(database=false) }}
            where {{ key[0] }} = any({{ 'touched' if deleted == touched else 'array(' ~ deleted ~ ')' }});
            {%- endif %}
            insert into {{ this.include(database=false) }} as stored ({{ columns }})
            select {{ columns }} from ({{ sql }}) as fresh
            where
                {{ key[0] }} = any(touched)
                and {{ headrace.pane_kept('fresh', retention, time_column) }}
            on conflict ({{ key | join(', ') }}) do update set
            {%- for name in measures %}
                {{ name }} = excluded.{{ name }}{{ ',' if not loop.last }}
            {%- endfor %}
            where
                (stored.{{ measures | join(', stored.') }})
                is distinct from (excluded.{{ measures | join(', excluded.') }});
        end if;
    {%- endset -%}
    {%- if driver.startswith('control.') %}
        {%- for operation in ['insert', 'update', 'delete'] %}
        {{ headrace.pane_trigger(driver, operation, body, transition=false) }}
        {%- endfor %}
    {%- else %}
        {{ headrace.pane_trigger(driver, 'insert', body) }}
    {%- endif %}
{%- endmacro %}
