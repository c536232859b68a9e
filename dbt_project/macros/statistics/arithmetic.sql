{#-
  Arithmetic that never raises. Arguments of all macros in this folder are SQL expressions, and most
  formulas name them many times: pass columns of a CTE rather than long expressions. Too little
  data, or counts that are impossible, give null.

  PostgreSQL raises where a double overflows or underflows to 0, so arguments are clamped before
  `exp`, `ln`, squares and divisions. Its `least` and `greatest` ignore nulls, hence the `case`
  around them. It sorts 'NaN' above all numbers; here 'NaN' never counts as one.
-#}

{#-
  e^x of a double: 1e-304 below -700 (and for null, which `greatest` ignores), 1e304 above 700. An
  engine may evaluate it for rows that no branch asks for; it never fails.
-#}
{% macro exp_of(x) -%}
    exp(least(greatest({{ x }}, -700), 700))
{%- endmacro %}

{#- coefficients[0] x^n + ... + coefficients[n] (Horner 1819). -#}
{% macro polynomial(x, coefficients) -%}
    {{ '(' * (coefficients | length - 2) }}
    {%- for coefficient in coefficients -%}
        {{ coefficient }}
        {%- if not loop.first and not loop.last %}){% endif %}
        {%- if not loop.last %} * {{ x }} + {% endif %}
    {%- endfor %}
{%- endmacro %}

{#-
  A number that can be squared and divided by without overflow or underflow: beyond 1e30 it counts
  as 1e30 (or -1e30), below 1e-30 as 0, and 'NaN' as null.
-#}
{% macro bounded(x) -%}
    {%- set x = '(' ~ x ~ ')::double precision' -%}
    case
        when abs({{ x }}) < '1e-30'::double precision then 0::double precision
        when abs({{ x }}) <= '1e30'::double precision then {{ x }}
        when {{ x }} < 0 then '-1e30'::double precision
        when {{ x }} <= 'infinity'::double precision then '1e30'::double precision
    end
{%- endmacro %}
