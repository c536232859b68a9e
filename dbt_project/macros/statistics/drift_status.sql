{#-
  The status of the drift views: too few rows, stable, moving or drifted.

  psi_excess  of category_distances
  is_sure     whether chi-square is significant
  n, m        rows of the two sides
  policies    prefix of the columns min_sample and psi_alert, such as 'spans.'
-#}
{% macro drift_status(psi_excess, is_sure, n, m, policies='') -%}
    case
        when ({{ psi_excess }}) is null or least({{ n }}, {{ m }}) < {{ policies }}min_sample
            then 'too few rows'
        when {{ is_sure }} and {{ psi_excess }} >= {{ policies }}psi_alert then 'drifted'
        when {{ is_sure }} and {{ psi_excess }} >= 0.1 then 'moving'
        else 'stable'
    end
{%- endmacro %}
