{#-
  A text as one word of a command line, quoted where needed, for messages that name a command.
-#}
{% macro shell_word(x) -%}
    case
        when {{ x }} ~ '^[A-Za-z0-9_.:/@%+=,-]+$' then {{ x }}
        else '''' || replace({{ x }}, '''', '''"''"''') || ''''
    end
{%- endmacro %}
