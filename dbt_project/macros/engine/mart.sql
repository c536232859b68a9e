{#-
  `materialized='mart'`: a plain view. PostgreSQL replaces it while readers go on reading; dbt's own
  view materialization drops, for a moment, everything that depends on it.

  config:
    stored  true makes it a materialized view on RisingWave: for a narrow view, of a row a model or
            version, that many marts read. A view costs RisingWave nothing until somebody asks; a
            materialized one costs actors, of which a cluster has few, and work at each clock step
-#}

{% materialization mart, adapter='postgres' %}
    {%- if headrace.is_package() -%}{{ return(headrace.deployed_elsewhere()) }}{%- endif -%}
    {{ run_hooks(pre_hooks) }}
    {% call statement('main') %}
        select control.replace_view('{{ this.include(database=false) }}', $mart$ {{ sql }} $mart$);
        {{ headrace.described() }}
    {% endcall %}
    {{ adapter.commit() }}
    {{ run_hooks(post_hooks) }}
    {{ return({'relations': [this.incorporate(type='view')]}) }}
{% endmaterialization %}


{#-
  Runs at the end. Views that this version no longer has are set aside, views of users are pointed to
  what replaced what they read, and what nothing reads any more is dropped (PostgreSQL;
  sql/postgres/006_deploy.sql).
-#}
{% macro drop_replaced() -%}
    {%- if execute and target.type == 'postgres' and not headrace.is_package() -%}
        {%- set names = [] -%}
        {%- for node in graph.nodes.values()
            if node.resource_type == 'model' and node.config.materialized == 'mart' -%}
            {%- do names.append("'" ~ node.schema ~ "." ~ node.alias ~ "'") -%}
        {%- endfor -%}
        select control.retire(array[{{ names | sort | join(', ') }}]);
        select control.drop_stale();
    {%- endif -%}
{%- endmacro %}


{% materialization mart, adapter='risingwave' %}
    {{ return(headrace.risingwave_view('materialized view' if config.get('stored') else 'view')) }}
{% endmaterialization %}
