{#- The chi-square test of a 2 x k table (Pearson 1900), also where its cells are sparse. -#}

{#-
  P(X >= statistic) of a chi-square X. Exact for 1 and 2 degrees of freedom; above, a sum of roots
  that is nearly normal (Canal 2005). Measured for 3 to 50 degrees: absolute error < 8e-4, and <
  2e-4 where p < 0.1; relative error < 3 % where p is in [1e-4, 0.1]; all are greatest at 3 degrees.
  (Wilson and Hilferty 1931: 5.6e-3, 1.7e-3 and 38 %.) Fewer and fractional degrees come from
  fitted_degrees; measured for 0.5 to 3 degrees: relative error < 20 % where p is in [0.001, 0.1].

  statistic  in [0, 1e30]
  degrees    of freedom; null below 0.5
  z          a column with chi_square_z of both, where there is one: the formula names it many times
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

{#-
  Canal's sum of roots as a standard normal number: minus its distance from the mean, in standard
  deviations.
-#}
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
  Mean and variance of the chi-square of a 2 x k table where nothing changed, over all ways to split
  its rows into two sides of these sizes (Haldane 1940, Dawson 1954). Those of the chi-square
  distribution, k - 1 and 2 (k - 1), are wrong where bins are sparse: with 300 classes by Zipf's law
  and 100 against 5,000 rows they call 7.7 % of tables different at 0.001, with 100 against 100 none
  at all.

  bins      k
  inverses  the sum over bins of 1 / rows of the bin, none of which is 0
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
  The third cumulant of that chi-square, to the first order: each bin's rows on a side as binomial,
  less what the sum of all of them says of each. With one side far greater it is that of Haldane
  (1937).

  inverse_squares  the sum over bins of 1 / rows of the bin squared
-#}
{% macro chi_square_third(bins, inverses, inverse_squares, n, m) -%}
    {%- set k = '(' ~ bins ~ ')::double precision' -%}
    {%- set rows = '(' ~ n ~ ' + ' ~ m ~ ')::double precision' -%}
    {%- set c -%}
        (({{ n }})::double precision / nullif({{ rows }}, 0) * ({{ m }}) / nullif({{ rows }}, 0))
    {%- endset -%}
    8 * ({{ k }} - 1)
    + (
        (22 - 112 * {{ c }}) * ({{ inverses }})
        - 18 * (1 - 4 * {{ c }}) * {{ k }} * {{ k }} / nullif({{ rows }}, 0)
    ) / nullif({{ c }}, 0)
    + (
        (1 - 30 * {{ c }} + 120 * {{ c }} * {{ c }}) * ({{ inverse_squares }})
        - 3 * (1 - 4 * {{ c }}) * (1 - 12 * {{ c }}) * ({{ inverses }})
        * {{ k }} / nullif({{ rows }}, 0)
        + (1 - 4 * {{ c }}) * (2 - 14 * {{ c }})
        * {{ k }} * {{ k }} * {{ k }} / nullif({{ rows }} * {{ rows }}, 0)
    ) / nullif({{ c }} * {{ c }}, 0)
{%- endmacro %}

{#-
  The degrees of freedom of the chi-square that is as skewed, in [0.5, 1e6]; null with one bin.
  Shifted and scaled to mean and variance, its tail is that of the statistic (Pearson 1959).
-#}
{% macro fitted_degrees(bins, variance, third) -%}
    case
        when ({{ bins }}) >= 2 and ({{ variance }}) is not null then least(greatest(
            case
                when ({{ variance }}) > 0 and ({{ third }}) > 0 then
                    8 * ({{ variance }})
                    * (({{ variance }}) / nullif({{ third }}, 0))
                    * (({{ variance }}) / nullif({{ third }}, 0))
                else 1000000
            end, 0.5
        ), 1000000)
    end
{%- endmacro %}

{#- The statistic as a chi-square of these degrees. -#}
{% macro fitted_statistic(statistic, mean, variance, degrees) -%}
    greatest(
        ({{ degrees }}) + (({{ statistic }}) - ({{ mean }})) * sqrt(2 * ({{ degrees }}))
        / nullif(sqrt(greatest(
            ({{ variance }}), 0.000001 * ({{ mean }}) * ({{ mean }})
        )), 0),
        0
    )
{%- endmacro %}

{#-
  Cramer's V of a 2 x k table, sqrt(chi-square / n) in [0, 1]: the size of the effect, whatever the
  number of rows (Cramer 1946).

  statistic  chi-square
  n          rows of both sides
  degrees    k - 1; null below 1
-#}
{% macro cramers_v(statistic, n, degrees) -%}
    {%- set x = '(' ~ statistic ~ ')::double precision' -%}
    case
        when ({{ n }}) > 0 and ({{ degrees }}) >= 1
            and {{ x }} between 0 and 'infinity'::double precision
            then least(sqrt({{ x }}) / nullif(sqrt(({{ n }})::double precision), 0), 1)
    end
{%- endmacro %}
