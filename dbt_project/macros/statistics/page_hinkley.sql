{#-
  The running Page-Hinkley statistic of an increase of the mean of x (Page 1954), as CTEs, the last
  of them `{{ name }}`: `by`, `order_by`, x, n (rows so far), statistic (in units of x). With w_i
  the weight of row i and mean_i the weighted mean of the first i rows:
    m_t = sum over i <= t of w_i (x_i - mean_i - delta);  statistic_t = m_t - min over s <= t of m_s
  For a decrease pass '-x'. Rows where x is null do not count.

  order_by  columns that order the rows of a group without ties
  delta     the change that is tolerated, in units of x: a number, or a column that is constant in a
            group
  weight    how much a row counts, above 0: of a mean of k examples k, divided by the mean of all k
-#}
{% macro page_hinkley(name, relation, by, order_by, x, delta, weight='1') -%}
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
            ({{ delta }})::double precision as delta,
            ({{ weight }})::double precision as weight
        from {{ relation }}
    ),

    {{ name }}_means as (
        select
            {{ keys }},
            {{ order_by }},
            x,
            delta,
            weight,
            count(*) over (
                {{ so_far }}
            ) as n,
            sum(weight * x) over (
                {{ so_far }}
            ) / nullif(sum(weight) over (
                {{ so_far }}
            ), 0) as mean
        from {{ name }}_points
        where x is not null
    ),

    {{ name }}_sums as (
        select
            {{ keys }},
            {{ order_by }},
            x,
            n,
            sum(weight * (x - mean - delta)) over (
                {{ so_far }}
            ) as m
        from {{ name }}_means
    ),

    {{ name }} as (
        select
            {{ keys }},
            {{ order_by }},
            x,
            n,
            m - min(m) over (
                {{ so_far }}
            ) as statistic
        from {{ name }}_sums
    )
{%- endmacro %}

{#-
  The value from which the n-th statistic is no chance: of all statistics of a stream without a
  change, of any length, one reaches it with a probability of at most alpha.
    h_n = variance / (2 delta) ln(n (n + 1) / alpha)
  x_i - mean_i are recursive residuals (Brown, Durbin, Evans 1975): uncorrelated, with a variance
  of at most that of x_i. Less delta they are a walk that falls, which climbs by h above any of its
  values with a probability of at most exp(-2 delta h / variance) (Lundberg 1903; for this sum Lorden
  1971), here alpha / (n (n + 1)); these add up to alpha.
  Measured at alpha 0.001, the variance being that of the stream so far, a check after each third
  point, up to 300 points of 10 or 100 examples, 300 streams each, delta half a standard deviation:
  no false alarm for errors of 0.01 to 0.3, nor for normal, log-normal (sigma 1 and 2), t (3 degrees)
  and Pareto (1.5) errors, and 0.7 % for Cauchy's.

  variance  of x
-#}
{% macro page_hinkley_threshold(variance, delta, n, alpha) -%}
    {%- set n = '(' ~ n ~ ')::double precision' -%}
    case when ({{ variance }}) >= 0 and ({{ delta }}) > 0 and {{ n }} > 0 and ({{ alpha }}) >= 0 then
        ({{ variance }}) / nullif(2 * ({{ delta }}), 0)
        * ln(
            {{ n }} * ({{ n }} + 1) / nullif(greatest({{ alpha }}, '1e-30'::double precision), 0)
        )
    end
{%- endmacro %}
