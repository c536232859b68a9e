{#-
  Bins that everyone shares, so that any two panes can be added up.
  Changing one of them makes stored panes wrong: the pane's digest changes and it is rebuilt.
-#}

{#- Relative error of a quantile read from a bucket: (gamma - 1) / (gamma + 1) = 1 %. -#}
{% macro sketch_gamma() %}1.0202020202020203{% endmacro %}

{#- Of a bucket, in logarithms. -#}
{% macro sketch_width() %}ln({{ headrace.sketch_gamma() }}::double precision){% endmacro %}

{#-
  DDSketch bucket of a number (Masson, Rim, Lee 2019): ceil(log_gamma |x|), shifted so that the
  integer orders as the numbers do: negative numbers below 0, zero at 0, positive ones above.
-#}
{% macro sketch_bucket(x) -%}
    case
        when {{ x }} = 0 then 0
        when {{ x }} > 0
            then 50000 + ceil(ln({{ x }}) / {{ headrace.sketch_width() }})::integer
        else -50000 - ceil(ln(-({{ x }})) / {{ headrace.sketch_width() }})::integer
    end
{%- endmacro %}

{#- The number that a bucket stands for, within the relative error. -#}
{% macro sketch_value(bucket) -%}
    case
        when {{ bucket }} = 0 then 0::double precision
        when {{ bucket }} > 0 then
            2 * {{ headrace.exp_of(headrace.sketch_width() ~ ' * (' ~ bucket ~ ' - 50000)') }}
            / ({{ headrace.sketch_gamma() }} + 1)
        when {{ bucket }} < 0 then
            -2 * {{ headrace.exp_of(headrace.sketch_width() ~ ' * (-50000 - ' ~ bucket ~ ')') }}
            / ({{ headrace.sketch_gamma() }} + 1)
    end
{%- endmacro %}

{#-
  One of 256 bins of a score in [0, 1], finer where rare events are predicted: 64 below 0.1, each
  11.6 % wider than the one before it (bin 0 ends at 0.0001), 128 equal ones up to 0.9, and the
  lower 64 mirrored above. Tenths are edges.
-#}
{% macro score_bin(score) -%}
    case
        when {{ score }} < 0.0001 then 0
        when {{ score }} < 0.1 then least(63, {{ headrace.score_tail(score) }})
        when {{ score }} < 0.9 then least(191, 64 + floor(({{ score }} - 0.1) * 160)::integer)
        when {{ score }} < 0.9999
            then 255 - least(63, {{ headrace.score_tail('(1 - ' ~ score ~ ')') }})
        when {{ score }} is not null then 255
    end
{%- endmacro %}

{% macro score_tail(score) -%}
    1 + floor(ln({{ score }} / 0.0001) / {{ headrace.score_tail_width() }})::integer
{%- endmacro %}

{#- ln(0.1 / 0.0001) / 63 -#}
{% macro score_tail_width() %}0.10964690919019265::double precision{% endmacro %}

{#- The middle of a bin. -#}
{% macro score_value(bin) -%}
    case
        when {{ bin }} = 0 then 0.00005::double precision
        when {{ bin }} < 64
            then 0.0001 * {{ headrace.exp_of(headrace.score_tail_width() ~ ' * (' ~ bin ~ ' - 0.5)') }}
        when {{ bin }} < 192 then 0.1 + ({{ bin }} - 63.5)::double precision / 160
        when {{ bin }} < 255
            then 1 - 0.0001 * {{ headrace.exp_of(headrace.score_tail_width() ~ ' * (254.5 - ' ~ bin ~ ')') }}
        when {{ bin }} = 255 then 0.99995::double precision
    end
{%- endmacro %}

{#- The tenth of [0, 1] that a bin lies in, 0 to 9. -#}
{% macro score_decile(bin) -%}
    case
        when {{ bin }} < 64 then 0
        when {{ bin }} < 192 then 1 + ({{ bin }} - 64) / 16
        when {{ bin }} is not null then 9
    end
{%- endmacro %}

{#- Sums that must be equal whatever the order of events are kept in millionths, as integers. -#}
{% macro micro(x) -%}
    (({{ x }}) * 1000000)::bigint
{%- endmacro %}

{#-
  A double as an exact number: sums of these are equal whatever the order of the rows.
  most  as of summable
-#}
{% macro exact(x, most='1e9') -%}
    {{ headrace.summable('(' ~ x ~ ')::numeric', x, most) }}
{%- endmacro %}

{#-
  What is to be added up, or its square. A number of RisingWave has 28 digits: a query that adds up
  more fails, and a materialized view ends for good, with all of its database. There it is null where
  `size`, a number, lies beyond `most`: sums of 1e18, the square of 1e9, hold 79 billion rows.
-#}
{% macro summable(x, size, most='1e9') -%}
    {{ return(adapter.dispatch('summable', 'headrace')(x, size, most)) }}
{%- endmacro %}

{% macro default__summable(x, size, most) %}{{ x }}{% endmacro %}

{% macro postgres__summable(x, size, most) %}{{ headrace.default__summable(x, size, most) }}{% endmacro %}

{% macro risingwave__summable(x, size, most) -%}
    case when abs({{ size }}) <= {{ most }} then {{ x }} end
{%- endmacro %}

{#- What log loss, Brier score and calibration need of a score: columns of every row. -#}
{% macro score_measures(score) -%}
    {{ headrace.micro(score) }} as score_micro,
    {{ headrace.micro(headrace.squared(score)) }} as score_squared_micro,
    {{ headrace.micro('ln(' ~ headrace.clipped(score) ~ ')') }} as log_score_micro,
    {{ headrace.micro('ln(1 - ' ~ headrace.clipped(score) ~ ')') }} as log_complement_micro
{%- endmacro %}

{#- What a pane keeps of scores beside their histogram: the measures added up, and how many. -#}
{% macro score_sums() -%}
    count(score_micro) as scored,
    {%- for name in [
        'score_micro', 'score_squared_micro', 'log_score_micro', 'log_complement_micro'
    ] %}
    coalesce(sum({{ name }}), 0)::bigint as {{ name }}{{ ',' if not loop.last }}
    {%- endfor %}
{%- endmacro %}

{#- A score kept away from 0 and 1, where log loss is infinite. -#}
{% macro clipped(score) -%}
    case when {{ score }} < 0.000001 then 0.000001::double precision
        when {{ score }} > 0.999999 then 0.999999::double precision
        else {{ score }} end
{%- endmacro %}

{#- The square of a score; one too small to matter is 0, where PostgreSQL would see an underflow. -#}
{% macro squared(score) -%}
    case when {{ score }} > 0.000000001 then {{ score }} * {{ score }}
        when {{ score }} is not null then 0 end
{%- endmacro %}

{#- Start of the pane of length `grain` that a timestamp falls into; panes start at 1970-01-01. -#}
{% macro pane_start(grain, timestamp) -%}
    {{ return(adapter.dispatch('pane_start', 'headrace')(grain, timestamp)) }}
{%- endmacro %}

{% macro default__pane_start(grain, timestamp) -%}
    date_bin(interval '{{ grain }}', {{ timestamp }}, '1970-01-01 00:00:00+00'::timestamptz)
{%- endmacro %}

{% macro postgres__pane_start(grain, timestamp) -%}
    {{ headrace.default__pane_start(grain, timestamp) }}
{%- endmacro %}

{% macro risingwave__pane_start(grain, timestamp) -%}
    {%- set seconds = {'10 seconds': 10, '1 minute': 60, '30 minutes': 1800, '1 hour': 3600, '1 day': 86400}[grain] -%}
    to_timestamp(floor(extract(epoch from {{ timestamp }})::double precision / {{ seconds }}) * {{ seconds }})
{%- endmacro %}
