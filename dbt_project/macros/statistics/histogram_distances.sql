{#- The distance of two histograms over the same bins. -#}

{#-
  The asymptotic p-value of the two-sample Kolmogorov-Smirnov test (Smirnov 1948), with
  lambda = D sqrt(n m / (n + m)): for lambda >= 1
    p = 2 sum (-1)^(k-1) exp(-2 k^2 lambda^2)
  and below 1, where that converges slowly, its theta transform
    p = 1 - sqrt(2 pi) / lambda sum exp(-(2 k - 1)^2 pi^2 / (8 lambda^2)).
  The terms left out are below 1e-13. D over bins is at most the D of the rows, so p is
  conservative.

  statistic  D in [0, 1]
  n, m       rows of the two samples
-#}
{% macro ks_p_value(statistic, n, m) -%}
    {%- set d = '(' ~ statistic ~ ')::double precision' -%}
    {%- set above_0 = 'greatest(' ~ d ~ ', 0.000000001)' -%}
    {%- set squared -%}
        greatest(
            {{ above_0 }} * {{ above_0 }} * ({{ n }}) / (({{ n }}) + ({{ m }})) * ({{ m }}), 0.001
        )
    {%- endset -%}
    case when ({{ n }}) > 0 and ({{ m }}) > 0 and {{ d }} between 0 and 1 then
        case
            when {{ squared }} >= 1 then 2 * (
                {{ headrace.exp_of('-2 * ' ~ squared) }}
                - {{ headrace.exp_of('-8 * ' ~ squared) }}
                + {{ headrace.exp_of('-18 * ' ~ squared) }}
                - {{ headrace.exp_of('-32 * ' ~ squared) }}
            )
            else 1 - 2.5066282746310002 / nullif(sqrt({{ squared }}), 0) * (
                {{ headrace.exp_of('-1.2337005501361697 / ' ~ squared) }}
                + {{ headrace.exp_of('-11.103304951225528 / ' ~ squared) }}
                + {{ headrace.exp_of('-30.842513753404244 / ' ~ squared) }}
            )
        end
    end
{%- endmacro %}

{#-
  How far apart two histograms are, as CTEs, the last of them `{{ name }}`: `by`,
    wasserstein         area between the distribution functions (Vaserstein 1969), in units of value
    wasserstein_normed  that in standard deviations of the reference; null where it has none
  Null where one side has no rows.

  relation  has `by`, bin_order (without ties), value (of the bin; rises with bin_order, never
            null), reference and current (counts, at least 0; both may be 0)
-#}
{% macro wasserstein_distances(name, relation, by) -%}
    {%- set keys = by | join(', ') -%}
    {%- set up_to_this -%}
        partition by {{ keys }}
                order by bin_order
                rows between unbounded preceding and current row
    {%- endset -%}
    {%- set all_bins -%}
        partition by {{ keys }}
                order by bin_order
                rows between unbounded preceding and unbounded following
    {%- endset -%}
    {{ name }}_bins as (
        select
            {{ keys }},
            bin_order,
            {{ headrace.bounded('value') }} as value,
            reference::double precision as reference,
            current::double precision as current
        from {{ relation }}
    ),

    {{ name }}_running as (
        select
            {{ keys }},
            value,
            reference,
            sum(reference) over (
                {{ up_to_this }}
            ) as reference_so_far,
            sum(current) over (
                {{ up_to_this }}
            ) as current_so_far,
            nullif(sum(reference) over (
                {{ all_bins }}
            ), 0) as reference_rows,
            nullif(sum(current) over (
                {{ all_bins }}
            ), 0) as current_rows,
            sum(reference * value) over (
                {{ all_bins }}
            ) as reference_sum,
            max(value) over (
                partition by {{ keys }}
                order by bin_order
                rows between 1 following and 1 following
            ) - value as width
        from {{ name }}_bins
    ),

    {{ name }}_gaps as (
        select
            {{ keys }},
            reference,
            reference / reference_rows as reference_share,
            abs(reference_so_far / reference_rows - current_so_far / current_rows) as gap,
            coalesce(width, 0) as width,
            value - reference_sum / reference_rows as deviation
        from {{ name }}_running
    ),

    {{ name }}_sums as (
        select
            {{ keys }},
            sum(gap * width) as wasserstein,
            case when count(*) filter (where reference > 0) > 1
                then sqrt(sum(reference_share * deviation * deviation))
            end as reference_deviation
        from {{ name }}_gaps
        group by {{ keys }}
    ),

    {{ name }} as (
        select
            {{ keys }},
            wasserstein,
            wasserstein / nullif(reference_deviation, 0) as wasserstein_normed
        from {{ name }}_sums
    )
{%- endmacro %}
