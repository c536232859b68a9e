{#-
  `materialized='pane'`: a stateful view that costs what the new rows cost, not what history does.

  On PostgreSQL a table, kept by statement triggers in the transaction that ingests; on RisingWave
  a native materialized view. Either way the model is one SELECT over all rows.

  config:
    key      columns that name a row; nulls are equal to each other
    drivers  relations whose new rows change the pane, as 'schema.table':
               a list     their delta is the SELECT with the driver replaced by its new rows
               a mapping  driver -> query of the keys that its new_rows touch (the first key
                          column); these rows are made again from everything
    only     of a list: driver -> query of those of its new_rows that can change the pane
    ahead    of a list: whether the delta is made before the batch's turn, beside another batch. Only
             where it reads nothing but the new rows; it pays for what is long to compute
    leaving  of a mapping: whether a stored row can stop coming out of the SELECT; all rows of
             touched keys are then deleted first. Such a pane drives no other one
    merge    how a delta meets the stored row:
               {column: 'min' | 'max'}  for these measures; every other one is summed
               'ignore'                 the first row stays (append-only)
    indexes  lists of columns
    retention  {grain: interval}, or one interval where the pane has no grains: older rows are
             dropped, counted back from the model's clock, and never made again
    time     the column that retention looks at, 'pane_start' unless told

  A changed pane is built beside the stored one and put into its place in one step.

  A pane over a pane takes the old rows of an update back out, so its own measures must be sums
  (a min or a max keeps the extreme that was ever seen).

  Triggers of one driver fire in the order of their panes' names: a query that asks another pane of
  the same driver what it held before the new rows belongs to a pane whose name comes first.
-#}

{% materialization pane, adapter='postgres' %}
    {%- set drivers = config.require('drivers') -%}
    {%- set key = config.require('key') -%}
    {%- set only = config.get('only', {}) -%}
    {%- set ahead = config.get('ahead', false) -%}
    {%- set leaving = config.get('leaving', false) -%}
    {%- set merge = config.get('merge', {}) -%}
    {%- set retention = config.get('retention', {}) -%}
    {%- set retention = retention if retention is mapping else {'': retention} -%}
    {%- set time = config.get('time', 'pane_start') -%}
    {%- set digest = headrace.pane_digest(
        [
            headrace.without_database(sql), key, drivers, only, ahead, leaving, merge,
            config.get('indexes', []), retention, time
        ],
        drivers
    ) -%}
    {%- set existing = load_cached_relation(this) -%}
    {{ run_hooks(pre_hooks) }}
    {%- if existing and not should_full_refresh() and headrace.pane_digested() == digest -%}
        {% call noop_statement('main', 'UNCHANGED') %}{% endcall %}
    {%- else -%}
        {%- set fresh = this.incorporate(path={'identifier': this.identifier ~ '__fresh'}) -%}
        {%- if existing %}
            {{ print('rebuilding ' ~ this.schema ~ '.' ~ this.identifier ~ ' from the events') }}
        {%- endif %}
        {% call statement('lock') %}
            {#- The tables that writers lock first, in their order, then what follows a batch. -#}
            lock table
                events.inference, events.feedback
                {%- for driver in drivers if driver.startswith('control.') %}, {{ driver }}{% endfor %}
            in share row exclusive mode;
            lock table locks.turn in exclusive mode;
            drop table if exists {{ fresh }};
            delete from control.horizons where pane = '{{ this.schema }}.{{ this.identifier }}';
            delete from control.retentions where pane = '{{ this.schema }}.{{ this.identifier }}';
            {%- for grain, keep in retention.items() %}
            insert into control.retentions (pane, grain, time_column, keep) values
            ('{{ this.schema }}.{{ this.identifier }}', '{{ grain }}', '{{ time }}', '{{ keep }}');
            {%- endfor %}
        {% endcall %}
        {% call statement('create') %}
            create table {{ fresh }} with (fillfactor = 70)
            as select * from ({{ sql }}) as shape with no data;
        {% endcall %}
        {%- set measures = [] -%}
        {%- for column in adapter.get_columns_in_relation(fresh) if column.name not in key -%}
            {%- do measures.append(column.name) -%}
        {%- endfor -%}
        {% call statement('main') %}
            insert into {{ fresh }} select * from ({{ sql }}) as everything;
            create unique index on {{ fresh }} ({{ key | join(', ') }}) nulls not distinct;
            {%- for columns in config.get('indexes', []) %}
            create index on {{ fresh }} ({{ columns | join(', ') }});
            {%- endfor %}
            insert into control.pane_digests as stored (pane, digest)
            values ('{{ this.schema }}.{{ this.identifier }}', '{{ digest }}')
            on conflict (pane) do update set digest = excluded.digest;
            analyze {{ fresh }};
            {%- if existing %}
            select control.replace_table('{{ existing }}', '{{ fresh }}');
            {%- else %}
            alter table {{ fresh }} rename to {{ adapter.quote(this.identifier) }};
            {%- endif %}
            {%- for driver in drivers %}
            {%- if drivers is mapping %}
            {{ headrace.pane_of_keys(
                sql, driver, drivers[driver], key, measures, leaving, retention, time
            ) }}
            {%- else %}
            {{ headrace.pane_of_deltas(
                sql, driver, only.get(driver), ahead, key, measures, merge, retention, time
            ) }}
            {%- endif %}
            {%- endfor %}
        {% endcall %}
    {%- endif -%}
    {% call statement('describe') %}{{ headrace.described() }}{% endcall %}
    {{ adapter.commit() }}
    {{ run_hooks(post_hooks) }}
    {{ return({'relations': [this.incorporate(type='table')]}) }}
{% endmaterialization %}


{% materialization pane, adapter='risingwave' %}
    {{ return(headrace.risingwave_view()) }}
{% endmaterialization %}


{#- Gives a pane or a mart the descriptions of its .yml as comments (PostgreSQL). -#}
{% macro described() -%}
    {%- set meanings = {} -%}
    {%- for name, column in model.columns.items() if column.description -%}
        {%- do meanings.update({name: column.description | trim}) -%}
    {%- endfor -%}
    select control.describe(
        '{{ this.include(database=false) }}',
        '{{ model.description | trim | replace("'", "''") }}',
        '{{ tojson(meanings) | replace("'", "''") }}'
    );
{%- endmacro %}


{#- What the stored table was made from: its configuration and the very tables below. -#}
{% macro pane_digest(parts, drivers) -%}
    {%- set known = [] -%}
    {%- for part in parts -%}
        {#- dbt gives a mapping in one order or another. -#}
        {%- do known.append(part | dictsort if part is mapping else part) -%}
    {%- endfor -%}
    {%- for driver in drivers | sort -%}
        {%- do known.append(run_query("select '" ~ driver ~ "'::regclass::oid")[0][0] | string) -%}
    {%- endfor -%}
    {{ return('pane ' ~ local_md5(known | string)) }}
{%- endmacro %}


{#- Rows beyond the retention are gone for good: a late one does not begin a half pane. -#}
{% macro pane_kept(rows, retention, time) -%}
    {%- if retention -%}
    not exists (
        select from control.horizons as horizons
        where
            horizons.pane = '{{ this.schema }}.{{ this.identifier }}'
            and horizons.grain = {{ "''" if '' in retention else rows ~ '.grain' }}
            and horizons.model = {{ rows }}.model
            and horizons.horizon > {{ rows }}.{{ time }}
    )
    {%- else -%}
    true
    {%- endif -%}
{%- endmacro %}


{#- The digest that the stored table was made with, or none. -#}
{% macro pane_digested() -%}
    {%- set rows = run_query(
        "select digest from control.pane_digests where pane = '"
        ~ this.schema ~ "." ~ this.identifier ~ "'"
    ).rows -%}
    {{ return(rows[0][0] if rows else none) }}
{%- endmacro %}


{#- Stored functions name no database, so that a copy of this one works too. -#}
{% macro without_database(sql) -%}
    {{ return(sql | replace(adapter.quote(target.database) ~ '.', '')) }}
{%- endmacro %}


{% macro pane_of_keys(sql, driver, touched, key, measures, leaving, retention, time) -%}
    {%- set sql = headrace.without_database(sql) -%}
    {%- set columns = (key + measures) | join(', ') -%}
    {%- set body %}
        touched := array({{ touched }});
        if cardinality(touched) > 0 then
            {%- if leaving %}
            delete from {{ this.include(database=false) }} where {{ key[0] }} = any(touched);
            {%- endif %}
            insert into {{ this.include(database=false) }} as stored ({{ columns }})
            select {{ columns }} from ({{ sql }}) as fresh
            where {{ key[0] }} = any(touched) and {{ headrace.pane_kept('fresh', retention, time) }}
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


{% macro pane_of_deltas(sql, driver, only, ahead, key, measures, merge, retention, time) -%}
    {%- set schema, table = driver.split('.') -%}
    {%- set sql = headrace.without_database(sql) -%}
    {%- set source = api.Relation.create(schema=schema, identifier=table) | string -%}
    {%- if source not in sql -%}
        {{ exceptions.raise_compiler_error(
            'pane ' ~ this.identifier ~ ': driver ' ~ driver ~ ' is not read by its SQL'
        ) }}
    {%- endif -%}
    {%- set new = sql | replace(source, '(' ~ only ~ ')' if only else 'new_rows') -%}
    {%- set old = sql | replace(source, 'old_rows') -%}
    {%- if ahead %}
    {%- set body %}
        delta := array(
            select row(made.*)::{{ this.include(database=false) }} from ({{ new }}) as made
        );
        lock table locks.turn in exclusive mode;
        {{ headrace.pane_merge(
            'select * from unnest(delta)', key, measures, merge, retention, time
        ) }}
    {%- endset %}
    {{ headrace.pane_trigger(driver, 'insert', body, ahead=true) }}
    {%- else %}
    {{ headrace.pane_trigger(
        driver, 'insert', headrace.pane_merge(new, key, measures, merge, retention, time)
    ) }}
    {%- endif %}
    {%- if schema == this.schema %}
    {%- set delta = headrace.pane_difference(new, old, key, measures, merge) %}
    {{ headrace.pane_trigger(
        driver, 'update', headrace.pane_merge(delta, key, measures, merge, retention, time)
    ) }}
    {%- endif -%}
{%- endmacro %}


{#- The added rows minus the removed ones; `x - x - x` is the negative of a vector, too. -#}
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
        {%- for name in measures %},
        {{ 'null' if name in merge else name ~ ' - ' ~ name ~ ' - ' ~ name }}
        {%- endfor %}
        from ({{ old }}) as removed
    ) as changed
    group by {{ keys }}
{%- endmacro %}


{% macro pane_merge(delta, key, measures, merge, retention, time) -%}
    {%- set columns = (key + measures) | join(', ') -%}
    insert into {{ this.include(database=false) }} as stored ({{ columns }})
    select {{ columns }} from ({{ delta }}) as delta
    where {{ headrace.pane_kept('delta', retention, time) }}
    {%- if merge == 'ignore' %}
    on conflict do nothing;
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
{%- endmacro %}


{#-
  One function and its trigger. Transition tables have no statistics and plans are kept for the
  session, so joins go by index whatever the first batch looked like.
-#}
{% macro pane_trigger(driver, operation, body, transition=true, ahead=false) -%}
    {%- set name = (this.identifier ~ '__' ~ driver ~ '_' ~ operation) | replace('.', '_') -%}
    create or replace function {{ this.schema }}.{{ name }}() returns trigger
    language plpgsql
    set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off
    set work_mem = '64MB'
    as $pane$
    declare
        touched text [];
        {%- if ahead %}
        delta {{ this.include(database=false) }} [];
        {%- endif %}
    begin
        {%- if transition %}
        if not exists (select from {{ 'old_rows' if operation == 'delete' else 'new_rows' }}) then
            return null;
        end if;
        {%- endif %}
        {{ body }}
        return null;
    end
    $pane$;
    {#- Before events.a_turn, or in the order of the names. -#}
    drop trigger if exists {{ '' if ahead else 'a_' }}{{ name }} on {{ driver }};
    create or replace trigger {{ 'a_' if ahead }}{{ name }} after {{ operation }} on {{ driver }}
    {%- if transition %}
    referencing new table as new_rows
    {%- if operation == 'update' %} old table as old_rows {%- endif %}
    {%- endif %}
    for each statement execute function {{ this.schema }}.{{ name }}();
{%- endmacro %}
