{#- Whether a label or prediction is a class or a measure, such as a price or a duration. -#}

{#-
  A label or prediction as a class, or null where it is a measure: a number written with more than
  three characters, or a text of more than 64.

  number  a column that holds as_number(x), where there is one
-#}
{% macro as_class(x, number=none) -%}
    {%- set is_measure = number ~ ' is not null' if number else headrace.is_number(x) -%}
    case
        when length({{ x }}) <= 3 then {{ x }}
        when length({{ x }}) <= 64 and not ({{ is_measure }}) then {{ x }}
    end
{%- endmacro %}

{#- A label or prediction as an exact number; null where it is not a number. -#}
{% macro as_number(x) -%}
    case when {{ headrace.is_number(x) }} then ({{ x }})::numeric end
{%- endmacro %}

{#-
  Whether a text is a number. Testing the first character rules most texts out without the regular
  expression, which makes PostgreSQL a tenth faster.
-#}
{% macro is_number(x) -%}
    ascii({{ x }}) < 58 and {{ x }} ~ '^-?[0-9]{1,30}(\.[0-9]{1,30})?([eE][-+]?[0-9]{1,2})?$'
{%- endmacro %}
