{#- What a deployment on RisingWave does otherwise than one on PostgreSQL. -#}

{#-
  The materialization of panes and marts there. What exists stays as it is, whatever its SQL says by
  now: a changed project is deployed by `dbt run --full-refresh`.

  kind  'materialized view', or 'view'
-#}
{% macro risingwave_view(kind='materialized view') -%}
    {%- set made = this.incorporate(type=kind | replace(' ', '_')) -%}
    {{ run_hooks(pre_hooks) }}
    {% call statement('main') %}
        create {{ kind }} if not exists {{ made }} as {{ sql }}
    {% endcall %}
    {{ run_hooks(post_hooks) }}
    {{ return({'relations': [made]}) }}
{%- endmacro %}

{#-
  Before `dbt run --full-refresh` on RisingWave: drops what is in the schemas of the views, the newest
  first, since what reads another was made after it; subscriptions and sinks of sql/risingwave/after
  go with them. Not by `cascade`, which new clusters refuse, and which would take along what others
  made on top: that makes it fail instead.
-#}
{% macro drop_views() -%}
    {%- if execute and target.type == 'risingwave' and flags.FULL_REFRESH -%}
        {%- set schemas = [] -%}
        {%- for node in graph.nodes.values()
            if node.resource_type == 'model' and node.config.materialized != 'ephemeral' -%}
            {%- if node.unique_id not in selected_resources -%}
                {{ exceptions.raise_compiler_error(
                    '--full-refresh makes all views again on RisingWave: select all of them, not '
                    ~ 'without ' ~ node.name
                ) }}
            {%- endif -%}
            {%- do schemas.append("'" ~ node.schema ~ "'") -%}
        {%- endfor -%}
        {%- set made = run_query(
            "select made.relation_type, home.name as home_name, made.name"
            ~ " from rw_catalog.rw_relations as made"
            ~ " inner join rw_catalog.rw_schemas as home on made.schema_id = home.id"
            ~ " where home.name in (" ~ schemas | unique | join(', ') ~ ")"
            ~ " and made.relation_type in ('materialized view', 'view', 'sink', 'subscription')"
            ~ " order by made.id desc"
        ) -%}
        {%- for kind, schema, name in made.rows -%}
            {%- do run_query('drop ' ~ kind ~ ' "' ~ schema ~ '"."' ~ name ~ '"') -%}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro %}
