{#- What a text is, and the words that are read of it. -#}

{#- At most so many features of a prediction, the first by name, are read as texts. -#}
{% macro text_features() %}8{% endmacro %}

{#- At most so many words, of so many characters, are read of the beginning of a text. -#}
{% macro text_words() %}64{% endmacro %}

{% macro text_beginning() %}400{% endmacro %}

{#-
  The text of a JSON value: of a string itself, of an object or an array its strings, one after the
  other, as input_text in headrace/events/contract.py has it for the trainer. The strings are cut
  out of the JSON as it is printed, where a quote within a string is the only one with a backslash.
-#}
{% macro text_of(json) -%}
    case
        when jsonb_typeof({{ json }}) = 'string' then {{ json }} #>> '{}'
        when jsonb_typeof({{ json }}) in ('object', 'array') then
            {{ headrace.strings_of(json ~ '::text') }}
    end
{%- endmacro %}

{% macro strings_of(printed) -%}
    {%- set unescaped -%}
        regexp_replace(
            replace(replace({{ printed }}, '\\', '/'), '\"', ''''),
            '\\(u[0-9a-f]{4}|[a-z])', ' ', 'g'
        )
    {%- endset -%}
    {%- set without_keys -%}
        regexp_replace(replace({{ unescaped }}, '""', ''), '"[^"]*": ?', '', 'g')
    {%- endset -%}
    btrim(regexp_replace({{ without_keys }}, '(^|")[^"]*("|$)', ' ', 'g'))
{%- endmacro %}

{#-
  Whether the string of a feature is a text and no category: more than 40 characters in several
  words, or in a script that is written without spaces.
-#}
{% macro is_text(x) -%}
    (
        length({{ x }}) > 40
        and (strpos({{ x }}, ' ') > 0 or {{ headrace.is_read_by_character(x) }})
    )
{%- endmacro %}

{#-
  Whether most characters of a text take three bytes in UTF-8, as in Chinese, Japanese and Thai,
  which have no spaces between words: each character counts as a word.
-#}
{% macro is_read_by_character(x) -%}
    octet_length({{ x }}) > 2 * length({{ x }})
{%- endmacro %}

{#-
  The words of a text as an array, with empty ones: runs of letters in lower case. Everything below
  À that is no letter, and the punctuation of Unicode, is between words.
-#}
{% macro words_of(x) -%}
    (string_to_array(
        regexp_replace(
            lower(left({{ x }}, {{ headrace.text_beginning() }})),
            '[\u0001-\u0040\u005b-\u0060\u007b-\u00bf\u2000-\u206f\u3000-\u303f\uff00-\uff20]+',
            ' ', 'g'
        ),
        case when not {{ headrace.is_read_by_character(x) }} then ' ' end
    ))[1:{{ headrace.text_words() }}]
{%- endmacro %}

{#-
  The hashing trick (Weinberger et al. 2009): a word is one of 256 by its hash, here the first two
  digits of its MD5, so that any vocabulary has as many. word_place is the number of these digits.
-#}
{% macro word_hash(word) %}left(md5({{ word }}), 2){% endmacro %}

{% macro word_place(hash) -%}
    (16 * strpos('123456789abcdef', left({{ hash }}, 1))
    + strpos('123456789abcdef', right({{ hash }}, 1)))
{%- endmacro %}
