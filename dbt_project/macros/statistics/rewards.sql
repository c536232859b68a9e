{#-
  Comparing the mean rewards of two versions. What statistics/arithmetic.sql says of arguments and
  nulls holds here too.
-#}

{#-
  The sample variance from n * sum(x^2) - sum(x)^2, which exact sums give without a rounding error;
  null where n < 2.
-#}
{% macro sample_variance(n, spread) -%}
    case when {{ n }} > 1 then
        greatest({{ headrace.as_double(spread) }}, 0)
        / nullif(({{ n }})::double precision * ({{ n }} - 1), 0)
    end
{%- endmacro %}

{#-
  Mean rewards of two sides and their difference, as CTEs, the last of them `{{ name }}`: `by`,
  labels, measure, mean_reward with _low and _high, difference (from the base) with _low and _high,
  z, p_value, always_valid_p_value; and labels and mean_reward of the base, prefixed with its name.

  Where every reward is 0 or 1, as far as the sums of each row tell, measure is 'share': intervals
  are Wilson's (1927), the interval of the difference is made of them (Newcombe 1998, method 10), z
  is that of the pooled two-proportion test. Else measure is 'mean': normal intervals from the
  sample variances, z is Welch's (1947), and the always valid p-value takes the greater of the
  pooled and the unpooled variance and expects a difference of a fifth of a standard deviation (as
  0.1 is of a share of 0.5). Below 2 labels a mean has no variance, and below 30 a poor one.
  Measured at alpha 0.05, checking after each 7th of 2,000 labels from the 30th on (normal,
  exponential, log-normal and rare exponential rewards, a base 1 or 9 times as large, 1,000 runs
  each): at most 3.3 % false alarms of the always valid p-value.

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
