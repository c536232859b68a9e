{#-
  DDSketch (Masson, Rim, Lee 2019): numbers are counted in buckets of constant relative width that
  are the same everywhere, so any two sketches can be added. Changing a constant here changes the
  digests of the panes, which are then rebuilt.
-#}

{#- Ratio of bucket edges. A quantile has a relative error of (gamma - 1) / (gamma + 1) = 1 %. -#}
{% macro sketch_gamma() %}1.0202020202020203{% endmacro %}

{#- Width of a bucket, in logarithms. -#}
{% macro sketch_width() %}ln({{ headrace.sketch_gamma() }}::double precision){% endmacro %}

{#-
  The bucket of a number: ceil(log_gamma |x|), shifted so that buckets are ordered as the numbers
  are: negative numbers below 0, zero at 0, positive numbers above.
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

{#- The share of slow answers that every version may have. -#}
{% macro max_slow_share() %}0.05{% endmacro %}

{#-
  Of predictions with a latency, how many there are (timed) and how many took longer than the policy
  max_latency_ms, by whole buckets (slow): a query of `by` and of both for each side.

  relation  has `by`, which begins with model, and bin and predictions (opened_blocks)
  sides     (prefix of the columns, condition) for each side
-#}
{% macro slow_counts(relation, by, sides) -%}
    select
        {%- for key in by %}
        bins.{{ key }},
        {%- endfor %}
        {%- for prefix, side in sides %}
        coalesce(sum(bins.predictions) filter (where {{ side }}), 0)::bigint
            as {{ prefix }}timed,
        coalesce(sum(bins.predictions) filter (
            where {{ side }}
            and bins.bin > {{ headrace.sketch_bucket('policies.max_latency_ms') }}
        ), 0)::bigint as {{ prefix }}slow{{ ',' if not loop.last }}
        {%- endfor %}
    from {{ relation }} as bins
    inner join {{ ref('model_policies') }} as policies on bins.model = policies.model
    group by {% for key in by %}bins.{{ key }}{{ ', ' if not loop.last }}{% endfor %}
{%- endmacro %}
