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
  z, p_value, always_valid_p_value, always_valid_low and always_valid_high; and labels and
  mean_reward of the base, prefixed with its name; unit_groups and design_effect.

  The sides are compared within each stratum, so that a side that gets more of the traffic of a good
  day is not better for it (Simpson 1951). difference is the mean of the strata's differences d,
  weighted by w = n_a n_b / (n_a + n_b) (Cochran 1954); a stratum with labels of one side alone has
  none. Its variance is sum(w^2 (s_a^2 / n_a + s_b^2 / n_b)) / sum(w)^2, with the variances s^2 of
  the rewards of a side over all strata, or, where nothing is different, sum(w s^2) / sum(w)^2 with
  the variance of both sides within the stratum (Mantel and Haenszel 1959).

  Where every reward is 0 or 1, as far as the sums of each row tell, measure is 'share': intervals
  are Wilson's (1927), the interval of the difference is made of them (Newcombe 1998, method 10), z
  is Mantel and Haenszel's. Else measure is 'mean': normal intervals from the sample variances, z is
  Welch's (1947). With weights an interval is as much wider as they make of the sample. Below 2
  labels a mean has no variance, and below 30 a poor one.

  What is always valid takes the greatest of the variances above and of that of all rewards, and
  expects a difference of 0.1 for shares, else of a fifth of a standard deviation. d and s^2 of shares
  come from (successes + 0.5) / (labels + 1). Measured at alpha 0.05, checking after each 7th of 2,000
  labels from the 30th on (normal, exponential, log-normal and rare exponential rewards, a base 1 or 9
  times as large, 1,000 runs each): at most 3.3 % false alarms of the always valid p-value.

  Rewards of a user depend on that user, so all variances grow by the design effects of the units
  (macro design_effects), and are null where nothing can be told of these. Measured with 40 to 2,000
  users of very different click rates (beta(0.3, 0.7)), who keep their side and come back 20 times
  on average, 40 looks, 500 runs each: at most 2.2 % false alarms; without design effects up to
  40 %.

  relation  has `by`, stratum, is_base, alpha (of the always valid interval, one for each `by`),
            examples (above 0), reward and reward_squared (exact sums)
  units     has `by`, stratum, is_base, unit_group and sums as of design_effects
  base      name of the side that the other one is compared with
-#}
{% macro compared_rewards(name, relation, by, base, units) -%}
    {%- set keys = by | join(', ') -%}
    {%- set sides = [('', 'not is_base'), (base ~ '_', 'is_base')] -%}
    {%- set effects = [
        'design_effect', 'labels_design_effect', base ~ '_labels_design_effect'
    ] -%}
    {{ headrace.design_effects(name ~ '_effects', units, by, base) }},

    {{ name }}_strata as (
        select
            {{ keys }},
            max(alpha) as alpha,
            count(case when reward != reward_squared then 1 end) as other,
            sum(examples)::bigint as all_labels,
            sum(reward) as all_reward,
            sum(reward_squared) as all_squares
            {%- for prefix, side in sides %},
            coalesce(sum(examples) filter (where {{ side }}), 0)::bigint as {{ prefix }}labels,
            coalesce(sum(reward) filter (where {{ side }}), 0) as {{ prefix }}reward,
            coalesce(sum(reward_squared) filter (where {{ side }}), 0) as {{ prefix }}squares
            {%- endfor %}
        from {{ relation }}
        group by {{ keys }}, stratum
    ),

    {{ name }}_weighted as (
        select
            *,
            labels::double precision * {{ base }}_labels / nullif(all_labels, 0) as weight,
            {{ headrace.as_double('reward') }} / nullif(labels, 0)
            - {{ headrace.as_double(base ~ '_reward') }} / nullif({{ base }}_labels, 0)
                as difference,
            {{ headrace.sample_variance(
                'all_labels', headrace.spread('all_labels', 'all_squares', 'all_reward')
            ) }} as variance
        from {{ name }}_strata
    ),

    {{ name }}_sums as (
        select
            {{ keys }},
            max(alpha) as alpha,
            sum(other) = 0 as is_share,
            nullif(sum(weight), 0) as weight,
            sum(weight * difference) as difference,
            sum(weight * variance) as within
            {%- for prefix, _ in [('all_', '')] + sides %},
            sum({{ prefix }}labels)::bigint as {{ prefix }}labels,
            sum({{ prefix }}reward) as {{ prefix }}reward,
            {{ headrace.spread(
                'sum(' ~ prefix ~ 'labels)', 'sum(' ~ prefix ~ 'squares)',
                'sum(' ~ prefix ~ 'reward)'
            ) }} as {{ prefix }}spread
            {%- endfor %}
            {%- for prefix, _ in sides %},
            sum(weight * weight / nullif({{ prefix }}labels, 0)) as {{ prefix }}sampling
            {%- endfor %}
        from {{ name }}_weighted
        group by {{ keys }}
    ),

    {{ name }}_moments as (
        select
            {% for key in by %}sums.{{ key }}, {% endfor %}
            effects.unit_groups
            {%- for effect in effects %},
            case when effects.{{ by[0] }} is null then 1 else effects.{{ effect }} end
                as {{ effect }}
            {%- endfor %},
            alpha,
            is_share,
            case when is_share then 'share' else 'mean' end as measure,
            weight,
            difference / weight as difference,
            within / weight / weight as within_variance,
            case when is_share
                then {{ headrace.share_variance('all_reward', 'all_labels') }}
                else {{ headrace.sample_variance('all_labels', 'all_spread') }}
            end as all_variance
            {%- for prefix, _ in sides %},
            {{ prefix }}labels,
            {{ prefix }}reward,
            {{ headrace.as_double(prefix ~ 'reward') }} / nullif({{ prefix }}labels, 0)
                as {{ prefix }}mean_reward,
            case when is_share
                then {{ headrace.share_variance(prefix ~ 'reward', prefix ~ 'labels') }}
                else {{ headrace.sample_variance(prefix ~ 'labels', prefix ~ 'spread') }}
            end as {{ prefix }}variance,
            {{ prefix }}sampling / weight / weight as {{ prefix }}sampling
            {%- endfor %}
        from {{ name }}_sums as sums
        left join {{ name }}_effects as effects
            on {% for key in by %}{{ ' and ' if not loop.first }}sums.{{ key }} = effects.{{ key }}
            {%- endfor %}
    ),

    {{ name }}_intervals as (
        select
            *,
            variance * sampling + {{ base }}_variance * {{ base }}_sampling as own_variance
            {%- for prefix, _ in sides %}
            {%- for bound, effect in [
                ('mean_reward', prefix ~ 'labels_design_effect'), ('compared', 'design_effect')
            ] %}
            {%- set by_effect = ' / nullif(' ~ effect ~ ', 0)' %}
            {%- for side, sign in [('low', '-'), ('high', '+')] %},
            case
                when is_share then {{ headrace.wilson_bound(
                    sign, prefix ~ 'reward' ~ by_effect, prefix ~ 'labels' ~ by_effect, 0.95
                ) }}
                else
                    {{ prefix }}mean_reward {{ sign }} {{ headrace.z_of(0.95) }}
                    * sqrt({{ prefix }}variance * {{ effect }} / nullif({{ prefix }}labels, 0))
            end as {{ prefix }}{{ bound }}_{{ side }}
            {%- endfor %}
            {%- endfor %}
            {%- endfor %}
        from {{ name }}_moments
        {{ headrace.fence() }}
    ),

    {{ name }}_tested as (
        select
            *,
            difference / nullif(sqrt(
                design_effect * case when is_share then within_variance else own_variance end
            ), 0) as z,
            case when is_share then
                difference
                + (0.5 - mean_reward) / nullif(labels + 1, 0)
                - (0.5 - {{ base }}_mean_reward) / nullif({{ base }}_labels + 1, 0)
            else difference end as careful_difference,
            case when own_variance is not null then
                design_effect * greatest(own_variance, within_variance, all_variance / weight)
            end as careful_variance,
            case when is_share then 0.01 else 0.04 * all_variance end as tau_squared
            {%- for bound, low, high in [('below', 'low', 'high'), ('above', 'high', 'low')] %},
            sqrt(
                (mean_reward - compared_{{ low }}) * (mean_reward - compared_{{ low }})
                * labels * sampling
                + ({{ base }}_compared_{{ high }} - {{ base }}_mean_reward)
                * ({{ base }}_compared_{{ high }} - {{ base }}_mean_reward)
                * {{ base }}_labels * {{ base }}_sampling
            ) as {{ bound }}
            {%- endfor %}
        from {{ name }}_intervals
        {{ headrace.fence() }}
    ),

    {{ name }}_reaching as (
        select
            *,
            {{ headrace.mixture_p_value('careful_difference', 'careful_variance', 'tau_squared') }}
                as always_valid_p_value,
            {{ headrace.mixture_reach('careful_variance', 'tau_squared', 'alpha') }} as reach
        from {{ name }}_tested
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
            unit_groups,
            design_effect,
            difference,
            difference - below as difference_low,
            difference + above as difference_high,
            z,
            {{ headrace.normal_p_value('z') }} as p_value,
            always_valid_p_value,
            careful_difference - reach as always_valid_low,
            careful_difference + reach as always_valid_high
        from {{ name }}_reaching
    )
{%- endmacro %}

{#-
  Variance of a reward that is 0 or 1, from (successes + 0.5) / (trials + 1): never 0; null without
  trials.
-#}
{% macro share_variance(successes, trials) -%}
    {%- set s = '(' ~ successes ~ ')::double precision' -%}
    {%- set n = '(' ~ trials ~ ')::double precision' -%}
    case when {{ trials }} > 0 then
        ({{ s }} + 0.5) / ({{ n }} + 1) * (({{ n }} - {{ s }} + 0.5) / ({{ n }} + 1))
    end
{%- endmacro %}
