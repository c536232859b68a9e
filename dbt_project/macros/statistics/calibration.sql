{#-
  Whether the calibration of a score changed: sums over the bins of calibration_curve.

  With d = (recent_rate - recent_score) - (reference_rate - reference_score) of a bin, what came true
  more often than its scores say, and v the variance of d by the common rate q of both sides,
      chi_square = sum(d^2 / v), with as many degrees of freedom as bins
      change     = sqrt(sum(recent_rows (d^2 - v)) / sum(recent_rows)), without what chance adds
  Scores that shift change neither. q (1 - q) is at most too great, as rows of a bin differ in their
  probability (Poisson 1837). Bins with a variance of fewer than 3 rows on a side are left out, as
  their d is not normal.
-#}

{% macro calibration_shift() -%}
    ((recent_rate - recent_score) - (reference_rate - reference_score))
{%- endmacro %}

{#- q (1 - q) -#}
{% macro calibration_spread() -%}
    (
        (reference_true + recent_true)
        * (reference_rows - reference_true + recent_rows - recent_true)::double precision
        / nullif((reference_rows + recent_rows)::double precision * (reference_rows + recent_rows), 0)
    )
{%- endmacro %}

{% macro has_calibration() -%}
    least(reference_rows, recent_rows) * {{ headrace.calibration_spread() }} >= 3
{%- endmacro %}

{#- v -#}
{% macro calibration_variance() -%}
    ({{ headrace.calibration_spread() }} * (
        1 / nullif(reference_rows, 0)::double precision + 1 / nullif(recent_rows, 0)::double precision
    ))
{%- endmacro %}
