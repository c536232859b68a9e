{#-
  What one bin adds to the distance of two distributions: population stability index,
  Jensen-Shannon.
-#}

{#-
  A bin's share of all rows, with half a row added to every bin so that none is empty (Jeffreys
  1946).
-#}
{% macro smoothed_share(count, total, bins) -%}
    ((({{ count }}) + 0.5)::double precision
    / nullif(({{ total }}) + 0.5 * ({{ bins }}), 0)::double precision)
{%- endmacro %}

{#-
  A bin's term of the population stability index in nats, (current - reference) ln(current /
  reference): the divergence of Jeffreys (1946), named so in credit scoring (Siddiqi 2006). The
  shares are smoothed ones; null where one is 0.
-#}
{% macro psi_term(reference_share, current_share) -%}
    {%- set r = '(' ~ reference_share ~ ')::double precision' -%}
    {%- set c = '(' ~ current_share ~ ')::double precision' -%}
    case when {{ r }} > 0 and {{ c }} > 0
        then ({{ c }} - {{ r }}) * (ln({{ c }}) - ln({{ r }}))
    end
{%- endmacro %}

{#-
  The mean of that term where nothing changed, given the rows of the bin on both sides together: the
  variance of the difference of its smoothed shares over its share. Over well filled bins these add
  up to (k - 1)(1 / n + 1 / m). Where bins are sparse that would be far too much, because the half
  row that smooths them dampens chance as well: with 300 equal classes and 1,000 against 100 rows
  chance adds 0.61, the formula says 3.2, and predictions that are all one class reach 2.4.

  rows  of the bin
  n, m  rows of the two sides
  bins  their number
-#}
{% macro psi_chance(rows, n, m, bins) -%}
    {%- set t = '(' ~ rows ~ ')::double precision' -%}
    {%- set n = '(' ~ n ~ ')::double precision' -%}
    {%- set m = '(' ~ m ~ ')::double precision' -%}
    {%- set k = '(' ~ bins ~ ')' -%}
    {%- set all = '(' ~ n ~ ' + ' ~ m ~ ')' -%}
    {%- set smoothed = '(' ~ n ~ ' + ' ~ m ~ ' + ' ~ k ~ ')' -%}
    {%- set sides = '(' ~ n ~ ' + 0.5 * ' ~ k ~ ') * (' ~ m ~ ' + 0.5 * ' ~ k ~ ')' -%}
    {{ t }} / nullif({{ t }} + 1, 0) * ({{ all }} - {{ t }})
    / nullif({{ all }} - 1, 0) * {{ n }} * {{ m }} / nullif({{ all }} * {{ all }}, 0)
    * {{ smoothed }} * {{ smoothed }} * {{ smoothed }}
    / nullif({{ sides }} * {{ sides }}, 0)
{%- endmacro %}

{#-
  A bin's term of the Jensen-Shannon divergence in bits (Lin 1991), whose sum over bins is in [0,
  1]. p and q are the bin's shares, and may be 0.
-#}
{% macro js_term(p, q) -%}
    {%- set p = '(' ~ p ~ ')::double precision' -%}
    {%- set q = '(' ~ q ~ ')::double precision' -%}
    ((
        case
            when {{ p }} > 0 then {{ p }} * ln(2 * {{ p }} / nullif({{ p }} + {{ q }}, 0))
            when {{ p }} = 0 then 0
        end
        + case
            when {{ q }} > 0 then {{ q }} * ln(2 * {{ q }} / nullif({{ p }} + {{ q }}, 0))
            when {{ q }} = 0 then 0
        end
    ) / 1.3862943611198906)
{%- endmacro %}
