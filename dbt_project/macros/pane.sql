{#-
  `materialized='pane'`: a stateful view that costs what the new rows cost, not what history does.

  On PostgreSQL a table, kept by statement triggers in the transaction that ingests: the model's
  own SELECT, run on the transition table instead of the driving relation, gives the delta.
  On RisingWave a native materialized view.

  config:
    key      columns that name a row; nulls are equal to each other
    drivers  relations whose new rows change the pane, as 'schema.table'; with two of them the
             SELECT must be a join, which is exact because batches are ingested one at a time
    merge    how a delta meets the stored row:
               {column: 'min' | 'max'}  for these measures; every other one is summed
               'ignore'                 the first row stays (append-only)
               {'latest_by': [columns]} the row with the greatest columns wins
    indexes  lists of columns

  A pane over a pane takes the old rows of an update back out, so its own measures must be sums
  (a min or a max keeps the extreme that was ever seen).
-#}

{% materialization pane, adapter='postgres' %}
    {%- set drivers = config.require('drivers') -%}
    {%- set key = config.require('key') -%}
    {%- set merge = config.get('merge', {}) -%}
    {%- set digest = headrace.pane_digest(sql, key, drivers, merge, config.get('indexes', [])) -%}
    {%- set existing = load_cached_relation(this) -%}
    {{ run_hooks(pre_hooks) }}
    {%- if existing and not should_full_refresh() and headrace.pane_comment(existing) == digest -%}
        {% call noop_statement('main', 'UNCHANGED') %}{% endcall %}
    {%- else -%}
        {% call statement('lock') %}
            select pg_advisory_xact_lock({{ var('ingest_lock', 7482310001) }});
            lock table {{ drivers | join(', ') }} in share row exclusive mode;
        {% endcall %}
        {%- if existing %}
            {#- dbt drops it, so that dbt knows which views went with it. -#}
            {% do adapter.drop_relation(existing) %}
        {%- endif %}
        {% call statement('create') %}
            create table {{ this }} as select * from ({{ sql }}) as shape with no data;
            create unique index on {{ this }} ({{ key | join(', ') }}) nulls not distinct;
            {%- for columns in config.get('indexes', []) %}
            create index on {{ this }} ({{ columns | join(', ') }});
            {%- endfor %}
            comment on table {{ this }} is '{{ digest }}';
        {% endcall %}
        {%- set measures = [] -%}
        {%- for column in adapter.get_columns_in_relation(this) if column.name not in key -%}
            {%- do measures.append(column.name) -%}
        {%- endfor -%}
        {% call statement('main') %}
            insert into {{ this }} select * from ({{ sql }}) as everything;
            analyze {{ this }};
            {%- for driver in drivers %}
            {{ headrace.pane_triggers(sql, driver, key, measures, merge) }}
            {%- endfor %}
        {% endcall %}
        {{ adapter.commit() }}
    {%- endif -%}
    {{ run_hooks(post_hooks) }}
    {{ return({'relations': [this.incorporate(type='table')]}) }}
{% endmaterialization %}


{% materialization pane, adapter='risingwave' %}
    {{ return(materialization_materialized_view_risingwave()) }}
{% endmaterialization %}


{#- What the stored table was made from: its SQL, its configuration and the very tables below. -#}
{% macro pane_digest(sql, key, drivers, merge, indexes) -%}
    {#- dbt gives a mapping in one order or another. -#}
    {%- set merge = merge | dictsort if merge is mapping else merge -%}
    {%- set below = [] -%}
    {%- for driver in drivers -%}
        {%- do below.append(run_query("select '" ~ driver ~ "'::regclass::oid")[0][0] | string) -%}
    {%- endfor -%}
    {{ return('pane ' ~ local_md5([sql, key, drivers, merge, indexes, below] | string)) }}
{%- endmacro %}


{% macro pane_comment(relation) -%}
    {{ return(run_query("select obj_description('" ~ relation ~ "'::regclass, 'pg_class')")[0][0]) }}
{%- endmacro %}


{% macro pane_triggers(sql, driver, key, measures, merge) -%}
    {%- set schema, table = driver.split('.') -%}
    {#- Stored functions name no database, so that a copy of this one works too. -#}
    {%- set sql = sql | replace(adapter.quote(target.database) ~ '.', '') -%}
    {%- set source = api.Relation.create(schema=schema, identifier=table) | string -%}
    {%- if source not in sql -%}
        {{ exceptions.raise_compiler_error(
            'pane ' ~ this.identifier ~ ': driver ' ~ driver ~ ' is not read by its SQL'
        ) }}
    {%- endif -%}
    {%- set new = sql | replace(source, 'new_rows') -%}
    {%- set old = sql | replace(source, 'old_rows') -%}
    {{ headrace.pane_trigger(driver, 'insert', new, key, measures, merge) }}
    {%- if schema == this.schema %}
    {{ headrace.pane_trigger(
        driver, 'update', headrace.pane_difference(new, old, key, measures, merge),
        key, measures, merge
    ) }}
    {%- endif -%}
{%- endmacro %}


{% macro pane_difference(new, old, key, measures, merge) -%}
    {%- set keys = key | join(', ') -%}
    select
        {{ keys }}
        {%- for name in measures %},
        {{ merge.get(name, 'sum') }}({{ name }}) as {{ name }}
        {%- endfor %}
    from (
        select {{ keys }}, {{ measures | join(', ') }} from ({{ new }}) as added
        union all
        select {{ keys }}
        {%- for name in measures %}, {{ 'null' if name in merge else '-' ~ name }}
        {%- endfor %}
        from ({{ old }}) as removed
    ) as changed
    group by {{ keys }}
{%- endmacro %}


{% macro pane_trigger(driver, operation, delta, key, measures, merge) -%}
    {%- set name = (this.identifier ~ '__' ~ driver ~ '_' ~ operation) | replace('.', '_') -%}
    {%- set columns = (key + measures) | join(', ') -%}
    create or replace function {{ this.schema }}.{{ name }}() returns trigger
    language plpgsql set plan_cache_mode = force_custom_plan as $pane$
    begin
        insert into {{ this.include(database=false) }} as stored ({{ columns }})
        select {{ columns }} from ({{ delta }}) as delta
        order by {{ key | join(', ') }}
        {%- if merge == 'ignore' %}
        on conflict do nothing;
        {%- elif 'latest_by' in merge %}
        on conflict ({{ key | join(', ') }}) do update set
            {%- for name in measures %}
            {{ name }} = excluded.{{ name }}{{ ',' if not loop.last }}
            {%- endfor %}
        where (excluded.{{ merge['latest_by'] | join(', excluded.') }})
            > (stored.{{ merge['latest_by'] | join(', stored.') }});
        {%- else %}
        on conflict ({{ key | join(', ') }}) do update set
            {%- for name in measures %}
            {%- set how = {'min': 'least', 'max': 'greatest'}.get(merge.get(name)) %}
            {{ name }} = {% if how -%}
                {{ how }}(stored.{{ name }}, excluded.{{ name }})
            {%- else -%}
                stored.{{ name }} + excluded.{{ name }}
            {%- endif %}{{ ',' if not loop.last }}
            {%- endfor %};
        {%- endif %}
        return null;
    end
    $pane$;
    create or replace trigger {{ name }} after {{ operation }} on {{ driver }}
    referencing new table as new_rows
    {%- if operation == 'update' %} old table as old_rows {%- endif %}
    for each statement execute function {{ this.schema }}.{{ name }}();
{%- endmacro %}
