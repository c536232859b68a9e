{#-
  Every model with its clock and its policies, and its champion while that serves (else null):
  what FROM reads as `clock`, `policies` and `champion`.
-#}
{% macro watched_models() -%}
    {{ ref('model_clock') }} as clock
    inner join {{ ref('model_policies') }} as policies on clock.model = policies.model
    left join {{ ref('champions') }} as champion
        on clock.model = champion.model and champion.is_serving
{%- endmacro %}
