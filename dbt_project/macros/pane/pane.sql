{#-
  `materialized='pane'`: an aggregate that is kept up to date by the rows that arrive, so it costs
  what they cost and not what history does. On PostgreSQL it is a table, maintained by statement
  triggers in the transaction that ingests; on RisingWave a native materialized view. On both the
  model is one SELECT over all rows.

  A worked example, models/panes/request_counts.sql:

      {{ config(
          key=['model', 'pane_start'],
          deltas=['events.inference'],
          merge={'last_at': 'max'}
      ) }}
      select
          model,
          {{ pane_start('1 hour', 'event_time') }} as pane_start,
          count(*) as requests,
          max(event_time) as last_at
      from {{ source('events', 'inference') }}
      group by 1, 2

  The stored pane, and two rows of a batch:

      model | pane_start | requests | last_at         model | event_time
      spam  | 10:00      |       41 | 10:52           spam  | 10:58
                                                      spam  | 11:03

  The trigger runs the SELECT with the table replaced by its new rows. The result is the delta:

      spam  | 10:00      |        1 | 10:58
      spam  | 11:00      |        1 | 11:03

  and is merged into the pane by its key, here `requests` by addition, `last_at` by max:

      spam  | 10:00      |       42 | 10:58
      spam  | 11:00      |        1 | 11:03

  What cannot be merged, such as the label that wins among several, is recomputed instead: a query
  says which keys the new rows touch, and the SELECT gives the rows of these keys anew.

  config:
    key          columns that identify a row; nulls are equal
  and one of these two, which name what drives the pane as 'schema.table':
    deltas       tables and panes whose new rows are aggregated and merged. A list, or a mapping of
                 each to a query of those of its `new_rows` that can change the pane
    recompute    a mapping of tables to a query of the keys (the first key column) that their
                 `new_rows` touch. Of a pane, `old_rows` has its changed rows as they were; of a
                 table in the schema control, `new_rows` has them as they were and as they are
  and, where they are needed:
    merge        {measure: 'min', 'max' or 'blocks'}; all others are added. Blocks of a histogram are
                 added, too, and are null where they count nothing. With deltas
    parallel     true computes the delta before the batch takes its turn, while another one is
                 merged: for a SELECT that is expensive and reads nothing but the new rows. With
                 deltas
    deletes      which of its drivers can make a row disappear from the SELECT. With recompute
    apart        true where the SELECT is a union of parts that read one driver each: the new rows
                 of one driver are merged without reading the others. With deltas
    most         {column of the key: how many of its values a pane keeps}; see pane_most.sql. With
                 deltas of events, on PostgreSQL
    retention    how long rows are kept behind the model's clock: an interval, or {grain: interval}.
                 Older rows are dropped and never made again
    time_column  the column that retention looks at; pane_start by default
    indexes      lists of columns, or {columns: such a list, where: which rows are in it}

  A changed pane is built beside the stored one and swapped in one step.

  A pane over a pane subtracts the old rows of an update and of a delete, so its own measures must
  be sums (a min or max would keep the extreme that was ever seen). What retention drops is not
  subtracted.

  Triggers of one table fire in the order of their panes' names. A query that asks another pane of
  the same table what it held before the new rows belongs to a pane whose name comes first.
-#}

{% materialization pane, adapter='postgres' %}
    {#- A staging model that is read twice would be computed in full for each batch. -#}
    {%- set sql = modules.re.sub(
        '(__dbt__cte__[a-z_]+) as [(]', '\\1 ' ~ headrace.as_inlined() ~ ' (', sql
    ) -%}
    {%- if headrace.is_package() -%}{{ return(headrace.deployed_elsewhere()) }}{%- endif -%}
    {%- set key = config.require('key') -%}
    {%- set deltas = config.get('deltas', []) -%}
    {%- set recompute = config.get('recompute', {}) -%}
    {%- if (deltas | length > 0) == (recompute | length > 0) -%}
        {{ exceptions.raise_compiler_error(
            'pane ' ~ this.identifier ~ ': either deltas or recompute must say what drives it'
        ) }}
    {%- endif -%}
    {%- set drivers = (deltas or recompute) | list -%}
    {%- set merge = config.get('merge', {}) -%}
    {%- set parallel = config.get('parallel', false) -%}
    {%- set deletes = config.get('deletes', false) -%}
    {%- set apart = config.get('apart', false) -%}
    {%- set most = config.get('most', {}) -%}
    {%- if most and drivers | reject('in', ['events.inference', 'events.feedback']) | list -%}
        {{ exceptions.raise_compiler_error(
            'pane ' ~ this.identifier ~ ': what a pane keeps most of is never taken back'
        ) }}
    {%- endif -%}
    {%- set retention = config.get('retention', {}) -%}
    {%- set retention = retention if retention is mapping else {'': retention} -%}
    {%- set time_column = config.get('time_column', 'pane_start') -%}
    {%- set digest = headrace.pane_digest(
        [
            headrace.without_database(sql), key, deltas, recompute, merge, parallel, deletes,
            retention, time_column, config.get('indexes', [])
        ] + (['apart'] if apart else []) + ([most] if most else []),
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
            {#- First the tables that writers lock first, in the same order. -#}
            lock table
                events.inference, events.feedback
                {%- for driver in drivers if driver.startswith('control.') -%}
                    , {{ driver }}
                {%- endfor %}
            in share row exclusive mode;
            lock table locks.turn in exclusive mode;
            drop table if exists {{ fresh }};
            {{ headrace.pane_retention(retention, time_column) }}
        {% endcall %}
        {% call statement('create') %}
            create table {{ fresh }} with (fillfactor = 70)
            as select * from ({{ sql }}) as shape with no data;
        {% endcall %}
        {%- set columns = adapter.get_columns_in_relation(fresh) | map(attribute='name') | list -%}
        {%- set measures = columns | reject('in', key) | list -%}
        {%- if most -%}
            {%- set sql = headrace.pane_folded(sql, columns, key, merge, most) -%}
        {%- endif -%}
        {#- All events: a loop over a join whose rows were underestimated would not end. -#}
        {% call statement('main') %}
            set local enable_nestloop = off;
            insert into {{ fresh }} select * from ({{ sql }}) as everything;
            set local enable_nestloop = default;
            create unique index on {{ fresh }} ({{ key | join(', ') }}) nulls not distinct;
            {%- for index in config.get('indexes', []) %}
            {%- set columns = index.columns if index is mapping else index %}
            create index on {{ fresh }} ({{ columns | join(', ') }})
            {%- if index is mapping %} where {{ index.where }}{% endif %};
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
            {%- for driver in deltas %}
            {{ headrace.pane_of_deltas(
                sql, driver, deltas[driver] if deltas is mapping else none, parallel,
                drivers if apart else [], key, measures, merge, retention, time_column, most
            ) }}
            {%- endfor %}
            {%- for driver in recompute %}
            {{ headrace.pane_of_keys(
                sql, driver, recompute[driver], driver in (deletes or []), key, measures, retention,
                time_column
            ) }}
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
