{#- Intervals and tests of proportions. successes and trials are counts. -#}

{#- Whether there are trials, and no more successes than trials. -#}
{% macro is_proportion(successes, trials) -%}
    ({{ trials }}) > 0 and ({{ successes }}) between 0 and ({{ trials }})
{%- endmacro %}

{#-
  The score interval of a proportion (Wilson 1927), in [0, 1]; null without trials.

  confidence  0.90, 0.95, 0.99 or 0.999, two-sided
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
  the 2 x 2 table): positive where a's proportion is greater. Null where either side has no trials,
  or all trials had the same outcome.
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
  The likelihood ratio statistic of two proportions, G (Wilks 1938), after half a success is moved
  from the side that has too many to the other one. Its root is nearly a standard normal number out
  to the tails, also where successes are few (of one binomial: Zubkov and Serov 2013). Measured: its
  p-value is 0.7 to 4 times twice that of the exact one-sided test, where that is in [1e-9, 0.05].
  The z-test says 3e-28 of 12 successes of 100 and none of 1,000, the exact test 2e-13, this 5e-13.
  Null where either side has no trials.
-#}
{% macro two_proportion_g(successes_a, trials_a, successes_b, trials_b) -%}
    {%- set s_a = '(' ~ successes_a ~ ')::double precision' -%}
    {%- set n_a = '(' ~ trials_a ~ ')::double precision' -%}
    {%- set s_b = '(' ~ successes_b ~ ')::double precision' -%}
    {%- set n_b = '(' ~ trials_b ~ ')::double precision' -%}
    {%- set all = 'nullif(' ~ n_a ~ ' + ' ~ n_b ~ ', 0)' -%}
    {%- set share_a = '(' ~ s_a ~ ' + ' ~ s_b ~ ') / ' ~ all -%}
    {%- set expected_a = share_a ~ ' * ' ~ n_a -%}
    {%- set expected_b = share_a ~ ' * ' ~ n_b -%}
    {%- set a = headrace.moved_to(s_a, expected_a) -%}
    {%- set b = headrace.moved_to(s_b, expected_b) -%}
    case
        when
            {{ headrace.is_proportion(successes_a, trials_a) }}
            and {{ headrace.is_proportion(successes_b, trials_b) }}
            then greatest(2 * (
                {{ headrace.likelihood_term(a, expected_a) }}
                + {{ headrace.likelihood_term(b, expected_b) }}
                + {{ headrace.likelihood_term(
                    n_a ~ ' - ' ~ a, n_a ~ ' - ' ~ expected_a
                ) }}
                + {{ headrace.likelihood_term(
                    n_b ~ ' - ' ~ b, n_b ~ ' - ' ~ expected_b
                ) }}
            ), 0)
    end
{%- endmacro %}

{#- A count, half a row nearer to what is expected. -#}
{% macro moved_to(count, expected) -%}
    ({{ count }} + greatest(least({{ expected }} - {{ count }}, 0.5), -0.5))
{%- endmacro %}

{#- count * ln(count / expected), 0 where either is 0. -#}
{% macro likelihood_term(count, expected) -%}
    case
        when ({{ count }}) > 0 and ({{ expected }}) > 0
            then ({{ count }}) * (ln({{ count }}) - ln({{ expected }}))
        else 0
    end
{%- endmacro %}
