{#-
  Formulas. Arguments are SQL expressions, and a formula names each of them many times: pass
  columns of a CTE, no long expressions. Not enough data, or counts that cannot be, give null.
  PostgreSQL raises where a double overflows, or underflows to 0, so that arguments are clamped
  before `exp`, `ln`, squares and divisions; its `least` and `greatest` skip nulls, so that they
  stand behind a `case`. 'NaN' is above all numbers there: it never counts as one here.
-#}

{#-
  e^x of a double: 1e-304 below -700 (and for null, of which `greatest` knows nothing), 1e304 above
  700. An engine may compute what no row asks for; this never fails.
-#}
{% macro exp_of(x) -%}
    exp(least(greatest({{ x }}, -700), 700))
{%- endmacro %}

{#- coefficients[0] x^n + ... + coefficients[n] (Horner 1819). -#}
{% macro polynomial(x, coefficients) -%}
    {{ '(' * (coefficients | length - 2) }}
    {%- for coefficient in coefficients -%}
        {{ coefficient }}
        {%- if not loop.first and not loop.last %}){% endif %}
        {%- if not loop.last %} * {{ x }} + {% endif %}
    {%- endfor %}
{%- endmacro %}

{#-
  A number that can be squared and divided by without overflow or underflow: beyond 1e30 it
  counts as 1e30 (-1e30), nearer to zero than 1e-30 as 0, and 'NaN' as null.
-#}
{% macro bounded(x) -%}
    {%- set x = '(' ~ x ~ ')::double precision' -%}
    case
        when abs({{ x }}) < '1e-30'::double precision then 0::double precision
        when abs({{ x }}) <= '1e30'::double precision then {{ x }}
        when {{ x }} < 0 then '-1e30'::double precision
        when {{ x }} <= 'infinity'::double precision then '1e30'::double precision
    end
{%- endmacro %}

{#-
  P(Z > x) of a standard normal Z, for a double x in [1e-20, 37]: a ratio of polynomials (Hart 1968,
  algorithm 5666, after West 2005). Measured: absolute error < 2e-16; relative error < 1e-10 up
  to x = 5, < 1e-8 up to 7, < 1e-5 beyond.
-#}
{% macro normal_upper_tail(x) -%}
    {{ headrace.exp_of('-' ~ x ~ ' * ' ~ x ~ ' / 2') }} * ({{ headrace.polynomial(x, [
        '0.0352624965998911', '0.700383064443688', '6.37396220353165', '33.912866078383',
        '112.079291497871', '221.213596169931', '220.206867912376',
    ]) }}) / ({{ headrace.polynomial(x, [
        '0.0883883476483184', '1.75566716318264', '16.064177579207', '86.7807322029461',
        '296.564248779674', '637.333633378831', '793.826512519948', '440.413735824752',
    ]) }})
{%- endmacro %}

{#- P(Z <= z) of a standard normal Z; errors as of normal_upper_tail, 0 or 1 where |z| > 37. -#}
{% macro normal_cdf(z) -%}
    {%- set z = '(' ~ z ~ ')::double precision' -%}
    case
        when abs({{ z }}) < 0.00000000000000000001 then 0.5
        when abs({{ z }}) <= 37 then
            case when {{ z }} > 0 then 1 else 0 end
            + case when {{ z }} > 0 then -1 else 1 end
            * {{ headrace.normal_upper_tail('abs(' ~ z ~ ')') }}
        when {{ z }} < 0 then 0
        when {{ z }} <= 'infinity'::double precision then 1
    end
{%- endmacro %}

{#- P(|Z| >= |z|) of a standard normal Z: the two-sided p-value of the statistic z. -#}
{% macro normal_p_value(z) -%}
    {%- set distance = 'abs((' ~ z ~ ')::double precision)' -%}
    case
        when {{ distance }} < 0.00000000000000000001 then 1
        when {{ distance }} <= 37
            then 2 * {{ headrace.normal_upper_tail(distance) }}
        when {{ distance }} <= 'infinity'::double precision then 0
    end
{%- endmacro %}

{#- How many standard errors a two-sided interval reaches; confidence is 0.90, 0.95 or 0.99. -#}
{% macro z_of(confidence) -%}
    {%- set known = {
        0.90: '1.6448536269514722', 0.95: '1.959963984540054', 0.99: '2.5758293035489004'
    } -%}
    {%- if confidence not in known -%}
        {{ exceptions.raise_compiler_error(
            'confidence: 0.90, 0.95 or 0.99 expected, got ' ~ confidence
        ) }}
    {%- endif -%}
    {{ known[confidence] }}
{%- endmacro %}

{#- Whether there were trials, and so many successes of them. -#}
{% macro is_proportion(successes, trials) -%}
    ({{ trials }}) > 0 and ({{ successes }}) between 0 and ({{ trials }})
{%- endmacro %}

{#-
  The score interval of a proportion (Wilson 1927), in [0, 1]; null without trials.
  successes, trials  counts;  confidence  0.90, 0.95 or 0.99, two-sided
-#}
{% macro wilson_low(successes, trials, confidence=0.95) -%}
    {{ headrace.wilson_bound('-', successes, trials, confidence) }}
{%- endmacro %}

{% macro wilson_high(successes, trials, confidence=0.95) -%}
    {{ headrace.wilson_bound('+', successes, trials, confidence) }}
{%- endmacro %}

{% macro wilson_bound(sign, successes, trials, confidence) -%}
    {%- set s = '(' ~ successes ~ ')::double precision' -%}
    {%- set n = '(' ~ trials ~ ')::double precision' -%}
    {%- set z = headrace.z_of(confidence) | float -%}
    case when {{ headrace.is_proportion(successes, trials) }} then
        least(greatest((
            {{ s }} + {{ z * z / 2 }}
            {{ sign }} {{ z }} * sqrt({{ s }} * ({{ n }} - {{ s }}) / {{ n }} + {{ z * z / 4 }})
        ) / ({{ n }} + {{ z * z }}), 0), 1)
    end
{%- endmacro %}

{#-
  The statistic of the pooled two-proportion z-test (Pearson 1900; z squared is the chi-square of
  the 2 x 2 table): above 0 where a's proportion is the greater one. Null where either side has
  no trials, or all trials ended alike.
-#}
{% macro two_proportion_z(successes_a, trials_a, successes_b, trials_b) -%}
    {%- set s_a = '(' ~ successes_a ~ ')::double precision' -%}
    {%- set n_a = '(' ~ trials_a ~ ')::double precision' -%}
    {%- set s_b = '(' ~ successes_b ~ ')::double precision' -%}
    {%- set n_b = '(' ~ trials_b ~ ')::double precision' -%}
    case
        when
            {{ headrace.is_proportion(successes_a, trials_a) }}
            and {{ headrace.is_proportion(successes_b, trials_b) }}
            then ({{ s_a }} / {{ n_a }} - {{ s_b }} / {{ n_b }}) / nullif(sqrt(
                ({{ s_a }} + {{ s_b }}) * ({{ n_a }} - {{ s_a }} + {{ n_b }} - {{ s_b }})
                / (({{ n_a }} + {{ n_b }}) * {{ n_a }} * {{ n_b }})
            ), 0)
    end
{%- endmacro %}

{#-
  A p-value that may be looked at after every event: min(1, 1 / Lambda) of the mixture sequential
  probability ratio test for a difference of two proportions, mixed over N(0, tau^2) (Robbins
  1970; Johari, Koomen, Pekelis, Walsh 2017):
    1 / Lambda = sqrt((V + tau^2) / V) exp(-tau^2 d^2 / (2 V (V + tau^2)))
  The value is that of the counts so far. Its running minimum is the sequence of the literature,
  but a rule that acts at the first look with p < alpha needs no minimum: Lambda is a martingale
  with mean 1 where the proportions are equal, so that it ever reaches 1 / alpha with a
  probability of at most alpha (Ville's inequality).
  That holds for normal sums of known variance. Here d comes from (successes + 0.5) / (trials + 1),
  and V is the greater of its pooled and its unpooled variance: never 0, and careful where one
  side is small. Measured at alpha = 0.05, looking after each of 3,000 trials of b, a being 1, 9
  or 50 times as large, proportions from 0.0005 to 0.99, tau 0.1 and 0.01: at most 3.4 % false
  alarms; the unpooled variance alone had up to 16 %.
  tau  the difference that is expected, in [1e-6, 1]: a number or an expression
-#}
{% macro always_valid_p_value(successes_a, trials_a, successes_b, trials_b, tau=0.1) -%}
    {%- set s_a = '(' ~ successes_a ~ ')::double precision' -%}
    {%- set n_a = '(' ~ trials_a ~ ')::double precision' -%}
    {%- set s_b = '(' ~ successes_b ~ ')::double precision' -%}
    {%- set n_b = '(' ~ trials_b ~ ')::double precision' -%}
    {%- set tau = '(' ~ tau ~ ')::double precision' -%}
    {%- set p_a = '((' ~ s_a ~ ' + 0.5) / (' ~ n_a ~ ' + 1))' -%}
    {%- set p_b = '((' ~ s_b ~ ' + 0.5) / (' ~ n_b ~ ' + 1))' -%}
    {%- set p = '((' ~ s_a ~ ' + ' ~ s_b ~ ' + 1) / (' ~ n_a ~ ' + ' ~ n_b ~ ' + 2))' -%}
    {%- set variance -%}
        greatest(
            {{ p_a }} * (1 - {{ p_a }}) / {{ n_a }} + {{ p_b }} * (1 - {{ p_b }}) / {{ n_b }},
            {{ p }} * (1 - {{ p }}) * (1 / {{ n_a }} + 1 / {{ n_b }})
        )
    {%- endset -%}
    {%- set mixture = tau ~ ' * ' ~ tau -%}
    {%- set difference = '(' ~ p_a ~ ' - ' ~ p_b ~ ')' -%}
    {%- set exponent -%}
        -{{ mixture }} * {{ difference }} * {{ difference }}
                / nullif(2 * {{ variance }} * ({{ variance }} + {{ mixture }}), 0)
    {%- endset -%}
    case
        when
            {{ headrace.is_proportion(successes_a, trials_a) }}
            and {{ headrace.is_proportion(successes_b, trials_b) }}
            and {{ tau }} between 0.000001 and 1
            then least(1, sqrt(1 + {{ mixture }} / nullif({{ variance }}, 0)) * {{ headrace.exp_of(exponent) }})
    end
{%- endmacro %}

{#-
  Upper confidence bound of an arm's mean reward in [0, 1] (UCB1: Auer, Cesa-Bianchi, Fischer
  2002). Null for an arm that was never pulled: that one comes first
  (`order by ... desc nulls first`).
-#}
{% macro ucb1(mean, pulls, total_pulls) -%}
    {%- set n = '(' ~ pulls ~ ')::double precision' -%}
    {%- set total = '(' ~ total_pulls ~ ')::double precision' -%}
    case when ({{ pulls }}) > 0 and ({{ total_pulls }}) >= 1
        then ({{ mean }})::double precision + sqrt(2 * ln({{ total }}) / {{ n }})
    end
{%- endmacro %}

{#-
  How many equally weighted rows say as much as these weighted ones, (sum w)^2 / sum w^2 (Kish
  1965); null where all weights are 0.
-#}
{% macro effective_sample_size(sum_w, sum_w_squared) -%}
    {%- set sum_w = '(' ~ sum_w ~ ')::double precision' -%}
    ({{ sum_w }} * ({{ sum_w }} / nullif(({{ sum_w_squared }})::double precision, 0)))
{%- endmacro %}

{#-
  The line y = intercept + slope x of each group by least squares (Legendre 1805), as CTEs, the
  last of them `{{ name }}`: `by`, n, x_mean, y_mean, slope, intercept, r_squared in [0, 1],
  slope_stderr. Rows where x or y is null do not count.
  Sums are about the means, so that seconds since 1970 are fine for x; predict with
  y_mean + slope (x - x_mean), which loses no digits. Slope and what needs it are null where
  n < 3 or x is constant, r_squared is also where y is constant.
-#}
{% macro least_squares(name, relation, by, x, y) -%}
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
            {{ headrace.bounded(y) }} as y
        from {{ relation }}
    ),

    {{ name }}_centred as (
        select
            {{ keys }},
            x,
            y,
            avg(x) over (
                {{ group }}
            ) as x_mean,
            avg(y) over (
                {{ group }}
            ) as y_mean
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
                then sum((x - x_mean) * (x - x_mean)) end, 0) as xx,
            case when max(y) > min(y) then sum((x - x_mean) * (y - y_mean)) else 0 end as xy,
            case when max(y) > min(y) then sum((y - y_mean) * (y - y_mean)) else 0 end as yy
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
                then sqrt(greatest(yy - xy / xx * xy, 0) / nullif(n - 2, 0) / xx)
            end as slope_stderr
        from {{ name }}_sums
    )
{%- endmacro %}
