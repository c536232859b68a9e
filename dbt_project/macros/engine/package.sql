{#-
  As a package of another project. Its models can be named there, as in
  `ref('headrace', 'model_performance')`, and are read as `headrace migrate` made them: nothing is
  built, tested or dropped, for which the other project's role may have no rights.
-#}

{#- Whether another project has this one as a package. -#}
{% macro is_package() -%}
    {{ return(project_name != 'headrace') }}
{%- endmacro %}

{#- What a materialization does there. -#}
{% macro deployed_elsewhere() -%}
    {% call noop_statement('main', 'DEPLOYED') %}{% endcall %}
    {{ return({'relations': [this]}) }}
{%- endmacro %}
