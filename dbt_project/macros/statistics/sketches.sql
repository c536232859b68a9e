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

{#-
  A query of bins with the predictions up to each of them: `by`, bin, predictions, up_to (this bin
  included) and total.

  relation  has `by`, bin and predictions, as opened_blocks gives them
-#}
{% macro ranked_bins(relation, by) -%}
    {%- set keys = by | join(', ') -%}
    select
        {{ keys }},
        bin,
        predictions,
        sum(predictions) over (
            partition by {{ keys }}
            order by bin
            rows between unbounded preceding and current row
        ) as up_to,
        sum(predictions) over (
            partition by {{ keys }}
            order by bin
            rows between unbounded preceding and unbounded following
        ) as total
    from {{ relation }}
{%- endmacro %}

{#-
  A quantile of a group of ranked_bins, an aggregate: the first bucket up to which that share of all
  predictions lies.

  share  in (0, 1], such as 0.95
-#}
{% macro sketch_quantile(share) -%}
    {{ headrace.sketch_value('min(bin) filter (where up_to >= ' ~ share ~ ' * total)') }}
{%- endmacro %}
