{#-
  Bins that everyone shares, so that any two panes can be added up.
  Changing one of them makes stored panes wrong: the pane's digest changes and it is rebuilt.
-#}

{#- Relative error of a quantile read from a bucket: (gamma - 1) / (gamma + 1) = 1 %. -#}
{% macro sketch_gamma() %}1.0202020202020203{% endmacro %}

{#-
  DDSketch bucket of a number (Masson, Rim, Lee 2019): ceil(log_gamma |x|), shifted so that the
  integer orders as the numbers do: negative numbers below 0, zero at 0, positive ones above.
-#}
{% macro sketch_bucket(x) -%}
    case
        when {{ x }} = 0 then 0
        when {{ x }} > 0
            then 50000 + ceil(ln({{ x }}) / ln({{ headrace.sketch_gamma() }}))::integer
        else -50000 - ceil(ln(-({{ x }})) / ln({{ headrace.sketch_gamma() }}))::integer
    end
{%- endmacro %}

{#- The number that a bucket stands for, within the relative error. -#}
{% macro sketch_value(bucket) -%}
    case
        when {{ bucket }} = 0 then 0::double precision
        when {{ bucket }} > 0 then
            2 * power({{ headrace.sketch_gamma() }}::double precision, {{ bucket }} - 50000)
            / ({{ headrace.sketch_gamma() }} + 1)
        else
            -2 * power({{ headrace.sketch_gamma() }}::double precision, -50000 - {{ bucket }})
            / ({{ headrace.sketch_gamma() }} + 1)
    end
{%- endmacro %}

{#- One of 1,000 equal bins of a score in [0, 1]. -#}
{% macro score_bin(score) -%}
    case when {{ score }} < 1 then floor({{ score }} * 1000)::integer
        when {{ score }} is not null then 999 end
{%- endmacro %}

{#- Sums that must be equal whatever the order of events are kept in millionths, as integers. -#}
{% macro micro(x) -%}
    round((({{ x }}) * 1000000)::numeric)::bigint
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
    {%- set seconds = {'10 seconds': 10, '1 minute': 60, '1 hour': 3600, '1 day': 86400}[grain] -%}
    to_timestamp(floor(extract(epoch from {{ timestamp }})::double precision / {{ seconds }}) * {{ seconds }})
{%- endmacro %}
