{#-
  Scores in [0, 1]: 256 fixed bins, and the sums that log loss, Brier score and calibration need.
  Changing a constant here changes the digests of the panes, which are then rebuilt.
-#}

{#-
  The bin of a score, 0 to 255, finer at both ends for rare events: 64 bins below 0.1, each 11.6 %
  wider than the one before (bin 0 ends at 0.0001), 128 equal ones up to 0.9, and the lower 64
  mirrored above. Tenths are edges.
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

{#- The measures of a score that log loss, Brier score and calibration need: columns of a row. -#}
{% macro score_measures(score) -%}
    {{ headrace.micro(score) }} as score_micro,
    {{ headrace.micro(headrace.squared(score)) }} as score_squared_micro,
    {{ headrace.micro('ln(' ~ headrace.clipped(score) ~ ')') }} as log_score_micro,
    {{ headrace.micro('ln(1 - ' ~ headrace.clipped(score) ~ ')') }} as log_complement_micro
{%- endmacro %}

{#-
  What a pane keeps of scores beside their histogram: their number, and the sums of the measures.
-#}
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

{#- The square of a score; 0 where PostgreSQL would raise an underflow. -#}
{% macro squared(score) -%}
    case when {{ score }} > 0.000000001 then {{ score }} * {{ score }}
        when {{ score }} is not null then 0 end
{%- endmacro %}
