{#- A text as one word of a command line, for sentences that name a command. -#}
{% macro shell_word(x) -%}
    case
        when {{ x }} ~ '^[A-Za-z0-9_.:/@%+=,-]+$' then {{ x }}
        else '''' || replace({{ x }}, '''', '''"''"''') || ''''
    end
{%- endmacro %}
