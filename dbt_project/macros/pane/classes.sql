{#- Whether a label or prediction is a class or a measure, and which class it names. -#}

{#-
  The class that a label or prediction names: without upper and lower case, `1` for `true`. Events
  keep what was said; whatever compares classes compares these. headrace/events/labels.py has the
  same rule. Only these letters are folded, on both engines: PostgreSQL's lower() depends on the
  database's locale.
-#}
{% macro class_of(x) -%}
    {%- set upper -%}
        ABCDEFGHIJKLMNOPQRSTUVWXYZ
        ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖØÙÚÛÜÝÞ
        ĀĂĄĆĈĊČĎĐĒĔĖĘĚĜĞĠĢĤĦĨĪĬĮĲĴĶĹĻĽĿŁŃŅŇŊŌŎŐŒŔŖŘŚŜŞŠŢŤŦŨŪŬŮŰŲŴŶŸŹŻŽȘȚ
        ΆΈΉΊΌΎΏΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩΪΫ
        ЀЁЂЃЄЅІЇЈЉЊЋЌЍЎЏАБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯҐ
    {%- endset -%}
    {%- set upper = upper.split() | join -%}
    case
        when lower({{ x }}) = 'true' then '1'
        when lower({{ x }}) = 'false' then '0'
        when octet_length({{ x }}) = length({{ x }}) then lower({{ x }})
        else translate({{ x }}, '{{ upper }}', '{{ upper | lower }}')
    end
{%- endmacro %}

{#-
  A label or prediction as a class, or null where it is a measure, such as a price or a duration: a
  number written with more than three characters, or a text of more than 64.

  number  a column that holds as_number(x), where there is one
-#}
{% macro as_class(x, number=none) -%}
    {%- set is_measure = number ~ ' is not null' if number else headrace.is_number(x) -%}
    case
        when length({{ x }}) <= 3 or (length({{ x }}) <= 64 and not ({{ is_measure }}))
            then {{ headrace.class_of(x) }}
    end
{%- endmacro %}

{#-
  A prediction as an arm: a class, or, with a propensity, whatever was chosen. A text of more than 64
  characters is named by its first 31 and its MD5.
-#}
{% macro arm_of(prediction, propensity) -%}
    case
        when {{ propensity }} is null then {{ headrace.as_class(prediction) }}
        when length({{ prediction }}) <= 64 then {{ headrace.class_of(prediction) }}
        else left({{ prediction }}, 31) || ' ' || md5({{ prediction }})
    end
{%- endmacro %}

{#- 1 where a prediction and a label name the same class, else 0. -#}
{% macro is_right(label, prediction) -%}
    case
            when {{ headrace.class_of(label) }} = {{ headrace.class_of(prediction) }} then 1 else 0
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
