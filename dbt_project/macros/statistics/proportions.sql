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
