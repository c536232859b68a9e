{#-
  `materialized='mart'`: a plain view on PostgreSQL, replaced while readers go on reading (dbt's own
  views drop all that stands on them for a moment); a materialized view on RisingWave.

  config:
    listing  a mart with as many rows as there are events, users or items. On RisingWave a plain view,
             too: each step of a model's clock would write every row of it anew
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
    {{ return(headrace.risingwave_view('view' if config.get('listing') else 'materialized view')) }}
{% endmaterialization %}
