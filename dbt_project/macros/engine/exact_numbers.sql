{#-
  Exact numbers, whose sums do not depend on the order of the rows. PostgreSQL's numeric has as many
  digits as it needs, RisingWave's has 28: a query that overflows them fails, and a materialized
  view that does so stops for good, and its database with it.
-#}

{#- A number in millionths, as an integer. -#}
{% macro micro(x) -%}
    (({{ x }}) * 1000000)::bigint
{%- endmacro %}

{#-
  A double as an exact number.

  most  as in `summable`
-#}
{% macro exact(x, most='1e9') -%}
    {{ headrace.summable('(' ~ x ~ ')::numeric', x, most) }}
{%- endmacro %}

{#-
  A term of a sum, or its square. On RisingWave it is null where abs(size) > most, because the sum
  could overflow: of terms up to 1e18, the square of 1e9, a sum holds 79 billion rows.
-#}
{% macro summable(x, size, most='1e9') -%}
    {{ return(adapter.dispatch('summable', 'headrace')(x, size, most)) }}
{%- endmacro %}

{% macro default__summable(x, size, most) %}{{ x }}{% endmacro %}

{% macro postgres__summable(x, size, most) -%}
    {{ headrace.default__summable(x, size, most) }}
{%- endmacro %}

{% macro risingwave__summable(x, size, most) -%}
    case when abs({{ size }}) <= {{ most }} then {{ x }} end
{%- endmacro %}

{#-
  An exact number as a double that can be squared and divided by: beyond 1e30 it counts as 1e30 (or
  -1e30), below 1e-30 as 0. Unlike `bounded` it takes sums that no double can hold. (All of
  RisingWave's exact numbers fit into a double, and the literal 1e30 is none of them.)
-#}
{% macro as_double(x) -%}
    {{ return(adapter.dispatch('as_double', 'headrace')(x)) }}
{%- endmacro %}

{% macro postgres__as_double(x) -%}
    case
        when abs({{ x }}) < 1e-30 then 0::double precision
        when abs({{ x }}) <= 1e30 then ({{ x }})::double precision
        when {{ x }} < 0 then '-1e30'::double precision
        when {{ x }} > 0 then '1e30'::double precision
    end
{%- endmacro %}

{% macro default__as_double(x) -%}
    {{ headrace.bounded(x) }}
{%- endmacro %}

{% macro risingwave__as_double(x) %}{{ headrace.default__as_double(x) }}{% endmacro %}

{#-
  n * sum(x^2) - sum(x)^2 of exact sums. On RisingWave it is null where it would need more than 28
  digits.
-#}
{% macro spread(n, squares, total) -%}
    {{ return(adapter.dispatch('spread', 'headrace')(n, squares, total)) }}
{%- endmacro %}

{% macro default__spread(n, squares, total) -%}
    {{ n }} * {{ squares }} - {{ total }} * {{ total }}
{%- endmacro %}

{% macro postgres__spread(n, squares, total) -%}
    {{ headrace.default__spread(n, squares, total) }}
{%- endmacro %}

{% macro risingwave__spread(n, squares, total) -%}
    case
        when
            ({{ n }})::double precision * ({{ squares }})::double precision
            < '1e28'::double precision
            and abs(({{ total }})::double precision) < '1e14'::double precision
            then {{ headrace.default__spread(n, squares, total) }}
    end
{%- endmacro %}
