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

{#-
  Whether a row of a pane is of predictions that the model chose to make and that count: neither
  explored, nor held out, nor a shadow's.
-#}
{% macro is_own_choice(panes) -%}
    {{ panes }}.variant not in ('shadow', 'explore', 'holdout')
{%- endmacro %}
