{#-
  The values of features by their type, as CTEs, the last of them `numbered`: `columns`, feature,
  type, number and category. A number is one, a string or bool is its own category, a missing value
  is neither.

  relation  has `columns`, feature (a name) and features (of the event)
  columns   what is kept beside each value
-#}
{% macro typed_features(relation, columns) -%}
    {%- set kept -%}
        {{ columns | join(',\n        ') }},
        feature
    {%- endset -%}
    valued as (
    select
        {{ kept }},
        features -> feature as value
    from {{ relation }}
    {{ headrace.fence() }}
),

typed as (
    select
        {{ kept }},
        value,
        jsonb_typeof(value) as type
    from valued
    {{ headrace.fence() }}
),

numbered as (
    select
        {{ kept }},
        type,
        case when type = 'number' then value::double precision end as number,
        case when type in ('string', 'boolean') then left(value #>> '{}', 100) end
            as category
    from typed
    {{ headrace.fence() }}
)
{%- endmacro %}
