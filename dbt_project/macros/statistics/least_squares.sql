{#-
  The line y = intercept + slope x of each group by least squares (Legendre 1805; weighted: Aitken
  1935), as CTEs, the last of them `{{ name }}`: `by`, n, x_mean, y_mean, slope, intercept,
  r_squared in [0, 1], slope_stderr. Rows where x or y is null do not count.

  Sums are about the means, so x may be seconds since 1970; predict with y_mean + slope (x -
  x_mean), which loses no digits. The slope and what depends on it are null where n < 3 or x is
  constant; r_squared also where y is constant.

  weight    how much a row counts, above 0: of a mean of k examples k
  variance  of y at a weight of 1, at least, where more is known of it than the residuals tell: of
            shares y_mean * (1 - y_mean). An expression of `by`, n, x_mean and y_mean
-#}
{% macro least_squares(name, relation, by, x, y, weight='1', variance='0') -%}
    {%- set keys = by | join(', ') -%}
    {%- set group -%}
        partition by {{ keys }}
                order by x
                rows between unbounded preceding and unbounded following
    {%- endset -%}
    {{ name }}_points as (
        select
            {{ keys }},
            {{ headrace.bounded(x) }} as x,
            {{ headrace.bounded(y) }} as y,
            ({{ weight }})::double precision as weight
        from {{ relation }}
    ),

    {{ name }}_centred as (
        select
            {{ keys }},
            x,
            y,
            weight,
            {%- for column in ['x', 'y'] %}
            sum(weight * {{ column }}) over (
                {{ group }}
            ) / nullif(sum(weight) over (
                {{ group }}
            ), 0) as {{ column }}_mean{{ ',' if not loop.last }}
            {%- endfor %}
        from {{ name }}_points
        where x is not null and y is not null
    ),

    {{ name }}_sums as (
        select
            {{ keys }},
            count(*) as n,
            max(x_mean) as x_mean,
            max(y_mean) as y_mean,
            nullif(case when count(*) >= 3 and max(x) > min(x)
                then sum(weight * (x - x_mean) * (x - x_mean)) end, 0) as xx,
            case when max(y) > min(y) then sum(weight * (x - x_mean) * (y - y_mean)) else 0 end as xy,
            case when max(y) > min(y) then sum(weight * (y - y_mean) * (y - y_mean)) else 0 end as yy
        from {{ name }}_centred
        group by {{ keys }}
    ),

    {{ name }} as (
        select
            {{ keys }},
            n,
            x_mean,
            y_mean,
            xy / xx as slope,
            y_mean - xy / xx * x_mean as intercept,
            case when xx * yy > 0 then least(xy * xy / nullif(xx * yy, 0), 1) end as r_squared,
            case when xx > 0
                then sqrt(greatest((yy - xy / xx * xy) / nullif(n - 2, 0), {{ variance }}, 0) / xx)
            end as slope_stderr
        from {{ name }}_sums
    )
{%- endmacro %}
