{#-
  Panes that are recomputed: the SELECT over everything, for the keys that new rows touch.

  sql          the SELECT over everything
  driver       the table or pane whose rows drive it, 'schema.table'. Rows of a pane may also be
               updated, and of a table in the schema `control` updated and deleted
  touched      a query of the keys that they touch. It reads `new_rows`; of a pane also `old_rows`,
               its changed rows as they were; of a table in the schema `control`, new_rows are the
               changed ones, as they were and as they are
  deletes      whether these rows can make rows of the pane disappear
  key, retention, time_column
               options of the pane (pane.sql)
  measures     the columns that are no key

  Keys are recomputed in portions, so that a policy that touches all of history needs no more memory
  than a batch.
-#}
{% macro pane_of_keys(
    sql, driver, touched, deletes, key, measures, retention, time_column
) -%}
    {%- set columns = (key + measures) | join(', ') -%}
    {%- set pane = this.include(database=false) -%}
    {%- set change %}
            with fresh as materialized (
                select {{ columns }} from ({{ headrace.without_database(sql) }}) as made
                where
                    {{ key[0] }} = any(touched)
                    and {{ headrace.pane_kept('made', retention, time_column) }}
            )
            {%- if deletes %},
            gone as (
                delete from {{ pane }} as stored
                where
                    stored.{{ key[0] }} = any(touched)
                    and not exists (
                        select from fresh
                        where
                            stored.{{ key[0] }} = fresh.{{ key[0] }}
                            {%- for name in key[1:] %}
                            and stored.{{ name }} is not distinct from fresh.{{ name }}
                            {%- endfor %}
                    )
            )
            {%- endif %}
            insert into {{ pane }} as stored ({{ columns }})
            select {{ columns }} from fresh
            on conflict ({{ key | join(', ') }}) do update set
            {%- for name in measures %}
                {{ name }} = excluded.{{ name }}{{ ',' if not loop.last }}
            {%- endfor %}
            where
                (stored.{{ measures | join(', stored.') }})
                is distinct from (excluded.{{ measures | join(', excluded.') }});
    {%- endset -%}
    {%- set is_pane = driver.split('.')[0] == this.schema -%}
    {%- set operations = ['insert'] -%}
    {%- if is_pane -%}
        {%- set operations = ['insert', 'update'] -%}
    {%- elif driver.startswith('control.') -%}
        {%- set operations = ['insert', 'update', 'delete'] -%}
    {%- endif -%}
    {%- for operation in operations %}
        {%- set keys = touched -%}
        {%- if is_pane and operation == 'insert' -%}
            {%- set keys = touched | replace('old_rows', '(select * from new_rows where false)') -%}
        {%- elif operation == 'update' and not is_pane -%}
            {%- set keys = touched | replace(
                'new_rows', '(select * from new_rows union all select * from old_rows)'
            ) -%}
        {%- elif operation == 'delete' -%}
            {%- set keys = touched | replace('new_rows', 'old_rows') -%}
        {%- endif -%}
        {%- set body %}
        for touched in
            select array_agg(key) from (
                select key, (row_number() over () - 1) / 20000 as portion
                from ({{ keys }}) as keys (key)
            ) as numbered
            group by portion
        loop
            {{- change }}
        end loop;
        {%- endset %}
        {{ headrace.pane_trigger(driver, operation, body) }}
    {%- endfor %}
{%- endmacro %}
