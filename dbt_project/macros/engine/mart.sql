{#-
  `materialized='mart'`: a plain view. PostgreSQL replaces it while readers go on reading; dbt's own
  view materialization drops, for a moment, everything that depends on it.

  config:
    stored  true makes it a materialized view on RisingWave: for a narrow view, of a row a model or
            version, that many marts read. A view costs RisingWave nothing until somebody asks; a
            materialized one costs actors, of which a cluster has few, and work at each clock step
-#}

{% materialization mart, adapter='postgres' %}
    {{ run_hooks(pre_hooks) }}
    {% call statement('main') %}
        select control.replace_view('{{ this.include(database=false) }}', $mart$ {{ sql }} $mart$);
        {{ headrace.described() }}
    {% endcall %}
    {{ adapter.commit() }}
    {{ run_hooks(post_hooks) }}
    {{ return({'relations': [this.incorporate(type='view')]}) }}
{% endmaterialization %}


{% materialization mart, adapter='risingwave' %}
    {{ return(headrace.risingwave_view('materialized view' if config.get('stored') else 'view')) }}
{% endmaterialization %}
