{#-
  The running Page-Hinkley statistic of an increase of the mean of x (Page 1954), as CTEs, the last
  of them `{{ name }}`: `by`, `order_by`, x, statistic (in units of x). With mean_i the mean of the
  first i rows:
    m_t = sum over i <= t of (x_i - mean_i - delta);  statistic_t = m_t - min over s <= t of m_s
  For a decrease pass '-x'. Rows where x is null do not count.

  order_by  columns that order the rows of a group without ties
  delta     the change that is tolerated, in units of x: a number, or a column that is constant in a
            group
-#}
{% macro page_hinkley(name, relation, by, order_by, x, delta) -%}
    {%- set keys = by | join(', ') -%}
    {%- set so_far -%}
        partition by {{ keys }}
                order by {{ order_by }}
                rows between unbounded preceding and current row
    {%- endset -%}
    {{ name }}_points as (
        select
            {{ keys }},
            {{ order_by }},
            {{ headrace.bounded(x) }} as x,
            ({{ delta }})::double precision as delta
        from {{ relation }}
    ),

    {{ name }}_means as (
        select
            {{ keys }},
            {{ order_by }},
            x,
            delta,
            avg(x) over (
                {{ so_far }}
            ) as mean
        from {{ name }}_points
        where x is not null
    ),

    {{ name }}_sums as (
        select
            {{ keys }},
            {{ order_by }},
            x,
            sum(x - mean - delta) over (
                {{ so_far }}
            ) as m
        from {{ name }}_means
    ),

    {{ name }} as (
        select
            {{ keys }},
            {{ order_by }},
            x,
            m - min(m) over (
                {{ so_far }}
            ) as statistic
        from {{ name }}_sums
    )
{%- endmacro %}
