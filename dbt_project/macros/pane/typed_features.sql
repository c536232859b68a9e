{#-
  The values of features by their type, as CTEs, the last of them `placed`: `columns`, feature, type,
  category and finest (rings.sql). A number has a finest bucket, a string or bool is its own
  category, a missing value has neither. What panes keep of them are feature_block() and
  feature_measures().

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
),

placed as (
    select
        {{ kept }},
        type,
        category,
        {{ headrace.finest_bucket('number') }} as finest
    from numbered
    {{ headrace.fence() }}
)
{%- endmacro %}

{#- The block of a number's sketch bucket; null for other values. -#}
{% macro feature_block() -%}
    {{ headrace.bucket_block(headrace.bucket_of_finest('finest')) }}
{%- endmacro %}

{#- What a pane keeps of a group of values: columns of an aggregate. -#}
{% macro feature_measures() -%}
    count(*) as predictions,
        case
            when {{ headrace.feature_block() }} is not null
                then {{ headrace.block_counts(
                    headrace.bucket_place(headrace.bucket_of_finest('finest')),
                    headrace.sketch_block()
                ) }}
        end as counts,
        case
            when {{ headrace.feature_block() }} is not null
                then {{ headrace.ring_counts('finest') }}
        end as rings
{%- endmacro %}
