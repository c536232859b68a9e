{#-
  A function that changes the pane, and the statement trigger that calls it. Transition tables have
  no statistics and plans are kept for the session, so joins are forced to use indexes, whatever the
  first batch looked like. A plan for the very keys of a small batch looks cheaper than the kept one,
  and making it costs more than the batch: the kept one is used.

  driver      the table with the trigger, 'schema.table'
  operation   'insert', 'update' or 'delete'
  body        statements of PL/pgSQL; may read new_rows (inserted or updated) and old_rows (updated
              or deleted), and use `touched` and `begun`, and `delta` where parallel
  parallel    whether it runs before the batch takes its turn (events.take_turn)
-#}
{% macro pane_trigger(driver, operation, body, parallel=false) -%}
    {%- set name = (this.identifier ~ '__' ~ driver ~ '_' ~ operation) | replace('.', '_') -%}
    create or replace function {{ this.schema }}.{{ name }}() returns trigger
    language plpgsql
    set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off
    set work_mem = '64MB' set plan_cache_mode = force_generic_plan
    as $pane$
    declare
        touched text [];
        begun {{ this.include(database=false) }} [];
        {%- if parallel %}
        delta {{ this.include(database=false) }} [];
        {%- endif %}
    begin
        if not exists (select from {{ 'old_rows' if operation == 'delete' else 'new_rows' }}) then
            return null;
        end if;
        {{ body }}
        return null;
    end
    $pane$;
    {#- Triggers fire in the order of their names: `a_NAME` before a_turn, NAME after it. -#}
    drop trigger if exists {{ '' if parallel else 'a_' }}{{ name }} on {{ driver }};
    create or replace trigger {{ 'a_' if parallel }}{{ name }} after {{ operation }} on {{ driver }}
    referencing
    {%- if operation != 'delete' %} new table as new_rows {%- endif %}
    {%- if operation != 'insert' %} old table as old_rows {%- endif %}
    for each statement
    {#- What a trigger deletes counts no longer; what control.expire deletes is only forgotten. -#}
    {%- if operation == 'delete' and driver.split('.')[0] == this.schema %}
    when (pg_trigger_depth() > 0)
    {%- endif %}
    execute function {{ this.schema }}.{{ name }}();
{%- endmacro %}
