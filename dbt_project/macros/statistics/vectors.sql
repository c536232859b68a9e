{#- What sums of vectors say of each dimension. -#}

{#-
  The variance of a dimension from its sums, at least 1e-10: vectors of one text differ by what single
  precision leaves, which is below that, and any text's dimensions vary by more. Null of one vector.

  squares, total  sums of the squares and of the values, doubles of at most one each
  n               vectors
-#}
{% macro vector_variance(squares, total, n) -%}
    case when {{ n }} > 1 then greatest(
        ({{ squares }} - {{ total }} * {{ total }} / nullif({{ n }}, 0)) / nullif({{ n }} - 1, 0),
        0.0000000001
    ) end
{%- endmacro %}

{#-
  The degrees of freedom of Welch's t-test (Satterthwaite 1946).

  error_a, error_b  squared standard errors of the two means, above 0
  n_a, n_b          rows
-#}
{% macro welch_degrees(error_a, n_a, error_b, n_b) -%}
    ({{ error_a }} + {{ error_b }}) * ({{ error_a }} + {{ error_b }}) / nullif(
        {{ error_a }} * {{ error_a }} / nullif({{ n_a }} - 1, 0)
        + {{ error_b }} * {{ error_b }} / nullif({{ n_b }} - 1, 0),
        0
    )
{%- endmacro %}
