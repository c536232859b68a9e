{#-
  The segments of each model in the order of their size, as a CTE `{{ name }}`: the columns of
  `relation`, place (1 for the largest), and segments, how many there are. Views by segment have a
  row for the first most_segments().

  relation  has model and segment
  size      a column of it
-#}
{% macro ranked_segments(name, relation, size) -%}
{{ name }} as (
    select
        *,
        row_number() over (
            partition by model
            order by {{ size }} desc, segment asc
        ) as place,
        count(*) over (
            partition by model
            order by model
            rows between unbounded preceding and unbounded following
        ) as segments
    from {{ relation }}
)
{%- endmacro %}

{% macro most_segments() %}50{% endmacro %}
