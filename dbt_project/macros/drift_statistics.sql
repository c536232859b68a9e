{#- Formulas of drift; what is said on top of statistics.sql holds here too. -#}

{#-
  P(X >= statistic) of a chi-square X with so many degrees of freedom. 1 and 2 are exact; above,
  a sum of roots that is nearly normal (Canal 2005). Measured for 3 to 50 degrees: absolute error
  < 8e-4, and < 2e-4 where p < 0.1; relative error < 3 % where p is in [1e-4, 0.1]; all of them
  are greatest at 3 degrees. (Wilson and Hilferty 1931: 5.6e-3, 1.7e-3 and 38 %.)
  Fewer, and fractions, come from fitted_degrees; measured for 0.5 to 3 degrees: relative error < 20 %
  where p is in [0.001, 0.1].
  statistic  in [0, 1e30];  degrees  null below 0.5
  z          chi_square_z of both, where that is a column: a formula that names it many times
-#}
{% macro chi_square_p_value(statistic, degrees, z=none) -%}
    {%- set x = '(' ~ statistic ~ ')::double precision' -%}
    {%- set k = '(' ~ degrees ~ ')::double precision' -%}
    case when {{ x }} between 0 and '1e30'::double precision and ({{ degrees }}) >= 0.5 then
        case
            when {{ x }} < '1e-30'::double precision then 1
            when {{ k }} = 1 then {{ headrace.normal_p_value('sqrt(' ~ x ~ ')') }}
            when {{ k }} = 2 then {{ headrace.exp_of('-' ~ x ~ ' / 2') }}
            else {{ headrace.normal_cdf(z or headrace.chi_square_z(statistic, degrees)) }}
        end
    end
{%- endmacro %}

{#- Canal's sum of roots, less its mean and in standard deviations, with the sign turned. -#}
{% macro chi_square_z(statistic, degrees) -%}
    {%- set x = '(' ~ statistic ~ ')::double precision' -%}
    {%- set k = '(' ~ degrees ~ ')::double precision' -%}
    case when {{ x }} between '1e-30'::double precision and '1e30'::double precision
        and ({{ degrees }}) >= 0.5 then (
            5 / 6.0 - (1 / 9.0 + (7 / 648.0 - 25 / 2187.0 / {{ k }}) / {{ k }}) / {{ k }}
            - power({{ x }} / {{ k }}, 1 / 6.0) + power({{ x }} / {{ k }}, 1 / 3.0) / 2
            - sqrt({{ x }} / {{ k }}) / 3
        ) / nullif(sqrt((1 / 18.0 + (1 / 162.0 - 37 / 11664.0 / {{ k }}) / {{ k }}) / {{ k }}), 0)
    end
{%- endmacro %}

{#-
  Mean and variance of the chi-square of a 2 x k table where nothing changed, over all ways to
  part its rows into two sides of these sizes (Haldane 1940, Dawson 1954). Chi-square's own, k - 1
  and 2 (k - 1), are wrong where bins are sparse: with 300 classes by Zipf's law and 100 against
  5,000 rows they call 7.7 % of tables different at 0.001, with 100 against 100 none at all.
  bins      k;  inverses  the sum over bins of 1 / its rows, none of which is 0
  n, m      rows of the two sides
-#}
{% macro chi_square_mean(bins, rows) -%}
    (({{ bins }}) - 1)::double precision * ({{ rows }}) / nullif(({{ rows }}) - 1, 0)
{%- endmacro %}

{% macro chi_square_variance(bins, inverses, n, m) -%}
    {%- set k = '(' ~ bins ~ ')::double precision' -%}
    {%- set rows = '(' ~ n ~ ' + ' ~ m ~ ')::double precision' -%}
    {%- set sides -%}
        ({{ rows }} * {{ rows }} / nullif(({{ n }})::double precision * ({{ m }}), 0) - 4)
        / nullif({{ rows }} - 2, 0)
    {%- endset -%}
    {%- set uneven -%}
        ({{ rows }} * ({{ inverses }}) - {{ k }} * {{ k }}) / nullif({{ rows }} - 2, 0)
    {%- endset -%}
    case when {{ rows }} > 3 then
        2 * {{ rows }} / nullif({{ rows }} - 3, 0)
        * (({{ rows }} - 2) / nullif({{ rows }} - 1, 0) - {{ sides }})
        * (({{ k }} - 1) * ({{ rows }} - {{ k }}) / nullif({{ rows }} - 1, 0) - {{ uneven }})
        + {{ rows }} * {{ rows }} / nullif({{ rows }} - 1, 0) * {{ sides }} * {{ uneven }}
    end
{%- endmacro %}

{#-
  The degrees of freedom of the chi-square whose mean and variance are in this proportion (times
  mean / degrees it has both), in [0.5, 1e6]; with two bins 1, as everybody has it; null with one.
  Measured where nothing changed, 2 to 300 classes, alike and by Zipf's law, 100 to 5,000 rows a
  side, 2,000 tables each: p < 0.001 in 0.00 to 0.40 % of them.
-#}
{% macro fitted_degrees(bins, mean, variance) -%}
    case
        when ({{ bins }}) = 2 then 1
        when ({{ bins }}) > 2 and ({{ variance }}) is not null then least(greatest(
            2 * ({{ mean }}) * ({{ mean }}) / nullif(case
                when ({{ variance }}) > 0 then ({{ variance }})
                else 0.000002 * ({{ mean }}) * ({{ mean }})
            end, 0), 0.5
        ), 1000000)
    end
{%- endmacro %}

{#-
  Cramer's V of a 2 x k table, sqrt(chi-square / n) in [0, 1]: the size of the effect, whatever
  the number of rows (Cramer 1946).
  statistic  chi-square;  n  rows of both sides;  degrees  k - 1, null below 1
-#}
{% macro cramers_v(statistic, n, degrees) -%}
    {%- set x = '(' ~ statistic ~ ')::double precision' -%}
    case
        when ({{ n }}) > 0 and ({{ degrees }}) >= 1
            and {{ x }} between 0 and 'infinity'::double precision
            then least(sqrt({{ x }}) / nullif(sqrt(({{ n }})::double precision), 0), 1)
    end
{%- endmacro %}

{#-
  The asymptotic p-value of the two-sample Kolmogorov-Smirnov test (Smirnov 1948), with
  lambda = D sqrt(n m / (n + m)): for lambda >= 1
    p = 2 sum (-1)^(k-1) exp(-2 k^2 lambda^2)
  and below 1, where that converges slowly, its theta transform
    p = 1 - sqrt(2 pi) / lambda sum exp(-(2 k - 1)^2 pi^2 / (8 lambda^2)).
  The terms left out are below 1e-13. D over bins is at most the D of the rows, so that p is
  careful.
  statistic  D in [0, 1];  n, m  rows of the two samples
-#}
{% macro ks_p_value(statistic, n, m) -%}
    {%- set d = '(' ~ statistic ~ ')::double precision' -%}
    {%- set above_0 = 'greatest(' ~ d ~ ', 0.000000001)' -%}
    {%- set squared -%}
        greatest(
            {{ above_0 }} * {{ above_0 }} * ({{ n }}) / (({{ n }}) + ({{ m }})) * ({{ m }}), 0.001
        )
    {%- endset -%}
    case when ({{ n }}) > 0 and ({{ m }}) > 0 and {{ d }} between 0 and 1 then
        case
            when {{ squared }} >= 1 then 2 * (
                {{ headrace.exp_of('-2 * ' ~ squared) }}
                - {{ headrace.exp_of('-8 * ' ~ squared) }}
                + {{ headrace.exp_of('-18 * ' ~ squared) }}
                - {{ headrace.exp_of('-32 * ' ~ squared) }}
            )
            else 1 - 2.5066282746310002 / nullif(sqrt({{ squared }}), 0) * (
                {{ headrace.exp_of('-1.2337005501361697 / ' ~ squared) }}
                + {{ headrace.exp_of('-11.103304951225528 / ' ~ squared) }}
                + {{ headrace.exp_of('-30.842513753404244 / ' ~ squared) }}
            )
        end
    end
{%- endmacro %}

{#-
  A bin's share of all rows, with half a row added to every bin so that none is empty (Jeffreys
  1946).
-#}
{% macro smoothed_share(count, total, bins) -%}
    ((({{ count }}) + 0.5)::double precision
    / nullif(({{ total }}) + 0.5 * ({{ bins }}), 0)::double precision)
{%- endmacro %}

{#-
  What one bin adds to the population stability index, (current - reference) ln(current /
  reference) in nats: the divergence of Jeffreys (1946), named so in credit scoring (Siddiqi
  2006). The shares are smoothed ones; null where one is 0.
-#}
{% macro psi_term(reference_share, current_share) -%}
    {%- set r = '(' ~ reference_share ~ ')::double precision' -%}
    {%- set c = '(' ~ current_share ~ ')::double precision' -%}
    case when {{ r }} > 0 and {{ c }} > 0
        then ({{ c }} - {{ r }}) * (ln({{ c }}) - ln({{ r }}))
    end
{%- endmacro %}

{#-
  What one bin adds to that index on average where nothing changed, if it has so many rows on both
  sides together: the variance of the difference of its smoothed shares over its share. Over bins
  that are well filled these add up to (k - 1)(1 / n + 1 / m). Where bins are sparse that is far too
  much: the half row that smooths them damps chance, too. With 300 equal classes and 1,000 against
  100 rows chance adds 0.61, the formula says 3.2, and predictions that are all one class come to 2.4.
  rows  of the bin;  n, m  of the two sides;  bins  how many there are
-#}
{% macro psi_chance(rows, n, m, bins) -%}
    {%- set t = '(' ~ rows ~ ')::double precision' -%}
    {%- set n = '(' ~ n ~ ')::double precision' -%}
    {%- set m = '(' ~ m ~ ')::double precision' -%}
    {%- set k = '(' ~ bins ~ ')' -%}
    {%- set all = '(' ~ n ~ ' + ' ~ m ~ ')' -%}
    {%- set smoothed = '(' ~ n ~ ' + ' ~ m ~ ' + ' ~ k ~ ')' -%}
    {%- set sides = '(' ~ n ~ ' + 0.5 * ' ~ k ~ ') * (' ~ m ~ ' + 0.5 * ' ~ k ~ ')' -%}
    {{ t }} / nullif({{ t }} + 1, 0) * ({{ all }} - {{ t }})
    / nullif({{ all }} - 1, 0) * {{ n }} * {{ m }} / nullif({{ all }} * {{ all }}, 0)
    * {{ smoothed }} * {{ smoothed }} * {{ smoothed }}
    / nullif({{ sides }} * {{ sides }}, 0)
{%- endmacro %}

{#-
  What one bin with shares p and q adds to the Jensen-Shannon divergence in bits (Lin 1991), whose
  sum over bins is in [0, 1]; a share may be 0.
-#}
{% macro js_term(p, q) -%}
    {%- set p = '(' ~ p ~ ')::double precision' -%}
    {%- set q = '(' ~ q ~ ')::double precision' -%}
    ((
        case
            when {{ p }} > 0 then {{ p }} * ln(2 * {{ p }} / nullif({{ p }} + {{ q }}, 0))
            when {{ p }} = 0 then 0
        end
        + case
            when {{ q }} > 0 then {{ q }} * ln(2 * {{ q }} / nullif({{ p }} + {{ q }}, 0))
            when {{ q }} = 0 then 0
        end
    ) / 1.3862943611198906)
{%- endmacro %}

{#-
  What the views of drift say of two distributions.
  psi_excess  of category_distances;  is_sure  whether chi-square is significant
  n, m        rows of the two sides
  policies    prefix of the columns min_sample and psi_alert: 'spans.'
-#}
{% macro drift_status(psi_excess, is_sure, n, m, policies='') -%}
    case
        when ({{ psi_excess }}) is null or least({{ n }}, {{ m }}) < {{ policies }}min_sample
            then 'too few rows'
        when {{ is_sure }} and {{ psi_excess }} >= {{ policies }}psi_alert then 'drifted'
        when {{ is_sure }} and {{ psi_excess }} >= 0.1 then 'moving'
        else 'stable'
    end
{%- endmacro %}

{#-
  The running Page-Hinkley statistic of an increase of the mean of x (Page 1954), as CTEs, the
  last of them `{{ name }}`: `by`, `order_by`, x, statistic (in units of x). With mean_i the mean
  of the first i rows:
    m_t = sum over i <= t of (x_i - mean_i - delta);  statistic_t = m_t - min over s <= t of m_s
  For a decrease pass '-x'. Rows where x is null do not count.
  order_by  columns that order the rows of a group, each place taken once
  delta     the change that is tolerated, in units of x: a number or a column that is constant
            in a group
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

{#-
  How far two histograms over the same bins are apart, as CTEs, the last of them `{{ name }}`:
  `by`, ks (two-sample Kolmogorov-Smirnov statistic over the bins, in [0, 1]), wasserstein (area
  between the two distribution functions, in units of value: Vaserstein 1969), wasserstein_normed
  (that in standard deviations of the reference; null where it has none), js_divergence (bits, in
  [0, 1]), reference_rows, current_rows. Distances are null where one side has no rows.
  relation  has `by`, bin_order (each place taken once), value (of the bin; rises with bin_order,
            never null), reference and current (counts, at least 0; both may be 0)
-#}
{% macro histogram_distances(name, relation, by) -%}
    {%- set keys = by | join(', ') -%}
    {%- set up_to_this -%}
        partition by {{ keys }}
                order by bin_order
                rows between unbounded preceding and current row
    {%- endset -%}
    {%- set all_bins -%}
        partition by {{ keys }}
                order by bin_order
                rows between unbounded preceding and unbounded following
    {%- endset -%}
    {{ name }}_bins as (
        select
            {{ keys }},
            bin_order,
            {{ headrace.bounded('value') }} as value,
            reference::double precision as reference,
            current::double precision as current
        from {{ relation }}
    ),

    {{ name }}_running as (
        select
            {{ keys }},
            value,
            reference,
            current,
            sum(reference) over (
                {{ up_to_this }}
            ) as reference_so_far,
            sum(current) over (
                {{ up_to_this }}
            ) as current_so_far,
            nullif(sum(reference) over (
                {{ all_bins }}
            ), 0) as reference_rows,
            nullif(sum(current) over (
                {{ all_bins }}
            ), 0) as current_rows,
            sum(reference * value) over (
                {{ all_bins }}
            ) as reference_sum,
            max(value) over (
                partition by {{ keys }}
                order by bin_order
                rows between 1 following and 1 following
            ) - value as width
        from {{ name }}_bins
    ),

    {{ name }}_gaps as (
        select
            {{ keys }},
            reference,
            current,
            reference / reference_rows as reference_share,
            current / current_rows as current_share,
            abs(reference_so_far / reference_rows - current_so_far / current_rows) as gap,
            coalesce(width, 0) as width,
            value - reference_sum / reference_rows as deviation
        from {{ name }}_running
    ),

    {{ name }}_sums as (
        select
            {{ keys }},
            max(gap) as ks,
            sum(gap * width) as wasserstein,
            case when count(*) filter (where reference > 0) > 1
                then sqrt(sum(reference_share * deviation * deviation))
            end as reference_deviation,
            sum({{ headrace.js_term('reference_share', 'current_share') }}) as js_divergence,
            sum(reference)::bigint as reference_rows,
            sum(current)::bigint as current_rows
        from {{ name }}_gaps
        group by {{ keys }}
    ),

    {{ name }} as (
        select
            {{ keys }},
            ks,
            wasserstein,
            wasserstein / nullif(reference_deviation, 0) as wasserstein_normed,
            case when js_divergence < 0 then 0 else js_divergence end as js_divergence,
            reference_rows,
            current_rows
        from {{ name }}_sums
    )
{%- endmacro %}
