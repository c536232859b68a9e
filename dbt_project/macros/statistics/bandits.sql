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

{#-
  Variances of ips = sum(w r) / n and of snips = sum(w r) / sum(w) over n logged rows with the weight w
  and the reward r, that of the ratio by the delta method; from the columns ips, snips, logged and
  the sums w, w_squared, w_squared_reward and w_squared_reward_squared.
-#}
{% macro ips_variance() -%}
    (w_squared_reward_squared / nullif(logged, 0) - ips * ips)
        / nullif(logged - 1, 0)
{%- endmacro %}

{% macro snips_variance() -%}
    (
            w_squared_reward_squared - 2 * snips * w_squared_reward
            + snips * snips * w_squared
        ) / nullif(w, 0) / nullif(w, 0)
{%- endmacro %}
