{#-
  `materialized='mart'`: a plain view. PostgreSQL replaces it while readers go on reading (dbt's own
  views drop all that stands on them for a moment).

  config:
    stored  on RisingWave a materialized view: a narrow one, of a row a model or version, that many
            marts read. A view costs it nothing until somebody asks; a materialized one costs
            actors, of which a cluster has few, and work at each step of a clock
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
