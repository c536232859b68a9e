{#- Numbers as text, the same on both engines. -#}

{#-
  The text of a double: an integer of 64 bits in its digits; any other number in its digits where it
  is at least 0.00001 and below 1e16, else with an exponent ('1e-06'). The same rule is in
  headrace/events/contract.py and sql/risingwave.
-#}
{% macro number_text(x) -%}
    case
        when {{ x }} = trunc({{ x }}) and abs({{ x }}) < '9223372036854775808'::double precision
            then {{ x }}::bigint::text
        when abs({{ x }}) >= 0.00001 and abs({{ x }}) < '1e16'::double precision
            then {{ x }}::text::numeric::text
        else {{ x }}::text
    end
{%- endmacro %}

{#-
  A double of 0 or more as text with a fixed number of decimals; numbers above 1e12 count as 1e12.
  RisingWave's round(0.5, 2) is 0.5, PostgreSQL's 0.50.
-#}
{% macro with_decimals(x, decimals) -%}
    {%- set unit = 10 ** decimals -%}
    {%- set units = 'round(least(' ~ x ~ ', 1e12) * ' ~ unit ~ ')::bigint' -%}
    case when {{ x }} is not null then
        ({{ units }} / {{ unit }})::text || '.'
        || lpad(({{ units }} % {{ unit }})::text, {{ decimals }}, '0')
    end
{%- endmacro %}

{#-
  A text to order by, byte by byte in UTF-8, whatever the collation of the database. RisingWave has
  no other order.
-#}
{% macro in_bytes(x) -%}
    {{ return(adapter.dispatch('in_bytes', 'headrace')(x)) }}
{%- endmacro %}

{% macro default__in_bytes(x) %}{{ x }}{% endmacro %}

{% macro postgres__in_bytes(x) %}{{ x }} collate "C"{% endmacro %}

{% macro risingwave__in_bytes(x) %}{{ headrace.default__in_bytes(x) }}{% endmacro %}
