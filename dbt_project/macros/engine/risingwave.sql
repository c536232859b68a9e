{#- How a deployment on RisingWave differs from one on PostgreSQL. -#}

{#-
  The materialization of panes and marts. A view that exists stays as it is, even when its SQL has
  changed: a changed project is deployed by `dbt run --full-refresh`.

  kind  'materialized view' or 'view'
-#}
{% macro risingwave_view(kind='materialized view') -%}
    {%- if headrace.is_package() -%}{{ return(headrace.deployed_elsewhere()) }}{%- endif -%}
    {%- set made = this.incorporate(type=kind | replace(' ', '_')) -%}
    {{ run_hooks(pre_hooks) }}
    {% call statement('main') %}
        create {{ kind }} if not exists {{ made }} as {{ sql }}
    {% endcall %}
    {{ run_hooks(post_hooks) }}
    {{ return({'relations': [made]}) }}
{%- endmacro %}

{#-
  Runs before `dbt run --full-refresh` and drops everything in the schemas of the views, newest
  first, because a view is always created after those it reads. Subscriptions and sinks of
  sql/risingwave/after are dropped too. `cascade` is not used: new clusters refuse it, and it would
  also drop what others have built on top; as it is, the run fails in that case.
-#}
{% macro drop_views() -%}
    {%- if
        execute and target.type == 'risingwave' and flags.FULL_REFRESH
        and not headrace.is_package()
    -%}
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
