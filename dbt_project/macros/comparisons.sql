{#- Comparisons of rewards; what is said on top of statistics.sql holds here too. -#}

{#-
  An exact number as a double that can be squared and divided by: beyond 1e30 it counts as 1e30
  (-1e30), nearer to zero than 1e-30 as 0. Other than `bounded` it takes sums that no double holds.
-#}
{% macro as_double(x) -%}
    {{ return(adapter.dispatch('as_double', 'headrace')(x)) }}
{%- endmacro %}

{% macro postgres__as_double(x) -%}
    case
        when abs({{ x }}) < 1e-30 then 0::double precision
        when abs({{ x }}) <= 1e30 then ({{ x }})::double precision
        when {{ x }} < 0 then '-1e30'::double precision
        when {{ x }} > 0 then '1e30'::double precision
    end
{%- endmacro %}

{#- RisingWave's exact numbers all fit into a double, and a number like 1e30 is none of its own. -#}
{% macro default__as_double(x) -%}
    {{ headrace.bounded(x) }}
{%- endmacro %}

{% macro risingwave__as_double(x) %}{{ headrace.default__as_double(x) }}{% endmacro %}

{#-
  n * sum(x^2) - sum(x)^2 of exact sums. On RisingWave it is null where the 28 digits of its numbers
  do not hold that, which would end a query.
-#}
{% macro spread(n, squares, total) -%}
    {{ return(adapter.dispatch('spread', 'headrace')(n, squares, total)) }}
{%- endmacro %}

{% macro default__spread(n, squares, total) -%}
    {{ n }} * {{ squares }} - {{ total }} * {{ total }}
{%- endmacro %}

{% macro postgres__spread(n, squares, total) -%}
    {{ headrace.default__spread(n, squares, total) }}
{%- endmacro %}

{% macro risingwave__spread(n, squares, total) -%}
    case
        when
            ({{ n }})::double precision * ({{ squares }})::double precision
            < '1e28'::double precision
            and abs(({{ total }})::double precision) < '1e14'::double precision
            then {{ headrace.default__spread(n, squares, total) }}
    end
{%- endmacro %}

{#-
  The sample variance from n * sum(x^2) - sum(x)^2, which exact sums give without a rounding
  error; null where n < 2.
-#}
{% macro sample_variance(n, spread) -%}
    case when {{ n }} > 1 then
        greatest({{ headrace.as_double(spread) }}, 0)
        / nullif(({{ n }})::double precision * ({{ n }} - 1), 0)
    end
{%- endmacro %}

{#-
  The mixture sequential probability ratio test of always_valid_p_value (Robbins 1970; Johari,
  Koomen, Pekelis, Walsh 2017) for any difference that is nearly normal:
    min(1, sqrt((V + tau^2) / V) exp(-tau^2 d^2 / (2 V (V + tau^2))))
  difference      d, a double of at most 1e30
  variance        V, of the difference, above 0, else null
  tau_squared     square of the difference that is expected, above 0
-#}
{% macro mixture_p_value(difference, variance, tau_squared) -%}
    {%- set exponent -%}
        -{{ difference }} * {{ difference }} / nullif(2 * {{ variance }}, 0)
            * ({{ tau_squared }} / nullif({{ variance }} + {{ tau_squared }}, 0))
    {%- endset -%}
    case when {{ variance }} > 0 and {{ tau_squared }} > 0 then
        least(1, sqrt(1 + {{ tau_squared }} / nullif({{ variance }}, 0))
            * {{ headrace.exp_of(exponent) }})
    end
{%- endmacro %}

{#-
  Mean rewards of two sides and how far they are apart, as CTEs, the last of them `{{ name }}`:
  `by`, labels, measure, mean_reward with _low and _high, difference (from the base) with _low and
  _high, z, p_value, always_valid_p_value, and labels and mean_reward of the base, with its name in
  front.

  Where every reward is 0 or 1, as far as the sums of each row tell, measure is 'share': intervals
  are Wilson's (1927), that of the difference is made of them (Newcombe 1998, method 10), z is the
  pooled two-proportion test. Else it is 'mean': normal intervals from the sample variances, z is
  Welch's (1947), and the always valid p-value takes the greater of the pooled and the unpooled
  variance, and a fifth of a standard deviation for the difference that is expected (as 0.1 is of
  a share of 0.5). Below 2 labels a mean has no variance, and below 30 a poor one. Measured at alpha
  0.05, looking after each 7th of 2,000 labels from the 30th on (normal, exponential, log-normal and
  rare exponential rewards, a base 1 or 9 times as large, 1,000 runs each): at most 3.3 % false
  alarms of the always valid p-value.

  relation  has `by`, is_base, examples (above 0), reward and reward_squared (exact sums)
  base      name of the side that the other one is compared with
-#}
{% macro compared_rewards(name, relation, by, base) -%}
    {%- set keys = by | join(', ') -%}
    {%- set sides = [('', 'not is_base'), (base ~ '_', 'is_base')] -%}
    {{ name }}_sums as (
        select
            {{ keys }},
            count(case when reward != reward_squared then 1 end) = 0 as is_share,
            sum(examples)::bigint as all_labels,
            {{ headrace.spread('sum(examples)', 'sum(reward_squared)', 'sum(reward)') }} as all_spread
            {%- for prefix, side in sides %},
            coalesce(sum(examples) filter (where {{ side }}), 0)::bigint as {{ prefix }}labels,
            coalesce(sum(reward) filter (where {{ side }}), 0) as {{ prefix }}reward,
            {{ headrace.spread(
                'sum(examples) filter (where ' ~ side ~ ')',
                'sum(reward_squared) filter (where ' ~ side ~ ')',
                'sum(reward) filter (where ' ~ side ~ ')'
            ) }} as {{ prefix }}spread
            {%- endfor %}
        from {{ relation }}
        group by {{ keys }}
    ),

    {{ name }}_moments as (
        select
            {{ keys }},
            is_share,
            case when is_share then 'share' else 'mean' end as measure,
            {{ headrace.sample_variance('all_labels', 'all_spread') }} as all_variance
            {%- for prefix, _ in sides %},
            {{ prefix }}labels,
            {{ prefix }}reward,
            {{ headrace.as_double(prefix ~ 'reward') }} / nullif({{ prefix }}labels, 0)
                as {{ prefix }}mean_reward,
            {{ headrace.sample_variance(prefix ~ 'labels', prefix ~ 'spread') }}
            / nullif({{ prefix }}labels, 0) as {{ prefix }}squared_error
            {%- endfor %}
        from {{ name }}_sums
    ),

    {{ name }}_intervals as (
        select
            *,
            mean_reward - {{ base }}_mean_reward as difference,
            squared_error + {{ base }}_squared_error as variance,
            case when squared_error is not null and {{ base }}_squared_error is not null then
                greatest(
                    squared_error + {{ base }}_squared_error,
                    all_variance / nullif(labels, 0)
                    + all_variance / nullif({{ base }}_labels, 0)
                )
            end as careful_variance,
            0.04 * all_variance as tau_squared
            {%- for prefix, _ in sides %}
            {%- for side, sign in [('low', '-'), ('high', '+')] %},
            case
                when is_share then
                    {{ headrace.wilson_bound(sign, prefix ~ 'reward', prefix ~ 'labels', 0.95) }}
                else
                    {{ prefix }}mean_reward {{ sign }} {{ headrace.z_of(0.95) }}
                    * sqrt({{ prefix }}squared_error)
            end as {{ prefix }}mean_reward_{{ side }}
            {%- endfor %}
            {%- endfor %}
        from {{ name }}_moments
    ),

    {{ name }}_tested as (
        select
            *,
            case
                when is_share then {{ headrace.two_proportion_z(
                    'reward', 'labels', base ~ '_reward', base ~ '_labels'
                ) }}
                else difference / nullif(sqrt(variance), 0)
            end as z,
            case
                when is_share then {{ headrace.always_valid_p_value(
                    'reward', 'labels', base ~ '_reward', base ~ '_labels'
                ) }}
                else {{ headrace.mixture_p_value(
                    'difference', 'careful_variance', 'tau_squared'
                ) }}
            end as always_valid_p_value,
            case
                when is_share then sqrt(
                    (mean_reward - mean_reward_low) * (mean_reward - mean_reward_low)
                    + ({{ base }}_mean_reward_high - {{ base }}_mean_reward)
                    * ({{ base }}_mean_reward_high - {{ base }}_mean_reward)
                )
                else {{ headrace.z_of(0.95) }} * sqrt(variance)
            end as below,
            case
                when is_share then sqrt(
                    (mean_reward_high - mean_reward) * (mean_reward_high - mean_reward)
                    + ({{ base }}_mean_reward - {{ base }}_mean_reward_low)
                    * ({{ base }}_mean_reward - {{ base }}_mean_reward_low)
                )
                else {{ headrace.z_of(0.95) }} * sqrt(variance)
            end as above
        from {{ name }}_intervals
        {{ headrace.fence() }}
    ),

    {{ name }} as (
        select
            {{ keys }},
            measure
            {%- for prefix, _ in sides %},
            {{ prefix }}labels,
            {{ prefix }}mean_reward,
            {{ prefix }}mean_reward_low,
            {{ prefix }}mean_reward_high
            {%- endfor %},
            difference,
            difference - below as difference_low,
            difference + above as difference_high,
            z,
            {{ headrace.normal_p_value('z') }} as p_value,
            always_valid_p_value
        from {{ name }}_tested
    )
{%- endmacro %}
