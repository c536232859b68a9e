{#-
  Quantiles of sketch buckets, as CTEs, the last of them `{{ name }}`: `by` and a column each.

  relation   has `by`, bin and predictions (opened_blocks)
  by         columns that name a row of the result
  quantiles  column: share, for example {'p95_ms': 0.95}
-#}
{% macro quantiles(name, relation, by, quantiles) -%}
    {%- set keys = by | join(', ') -%}
    {{ name }}_ranks as (
        select
            {{ keys }},
            bin,
            sum(predictions) over (
                partition by {{ keys }}
                order by bin
                rows between unbounded preceding and current row
            ) as up_to,
            sum(predictions) over (
                partition by {{ keys }}
                order by bin
                rows between unbounded preceding and unbounded following
            ) as total
        from {{ relation }}
    ),

    {{ name }} as (
        select
            {{ keys }}
            {%- for column, share in quantiles.items() %},
            {{ headrace.sketch_value('min(bin) filter (where up_to >= ' ~ share ~ ' * total)') }}
                as {{ column }}
            {%- endfor %}
        from {{ name }}_ranks
        group by {{ keys }}
    )
{%- endmacro %}
