{#- Statistics of arms that were tried unequally often. -#}

{#-
  Upper confidence bound of an arm's mean reward in [0, 1] (UCB1: Auer, Cesa-Bianchi, Fischer 2002).
  Null for an arm that was never pulled; such an arm comes first (`order by ... desc nulls first`).
-#}
{% macro ucb1(mean, pulls, total_pulls) -%}
    {%- set n = '(' ~ pulls ~ ')::double precision' -%}
    {%- set total = '(' ~ total_pulls ~ ')::double precision' -%}
    case when ({{ pulls }}) > 0 and ({{ total_pulls }}) >= 1
        then ({{ mean }})::double precision + sqrt(2 * ln({{ total }}) / {{ n }})
    end
{%- endmacro %}

{#-
  The number of equally weighted rows that are worth as much as these weighted ones,
  (sum w)^2 / sum w^2 (Kish 1965); null where all weights are 0.
-#}
{% macro effective_sample_size(sum_w, sum_w_squared) -%}
    {%- set sum_w = '(' ~ sum_w ~ ')::double precision' -%}
    ({{ sum_w }} * ({{ sum_w }} / nullif(({{ sum_w_squared }})::double precision, 0)))
{%- endmacro %}
