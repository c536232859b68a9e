{#-
  The distance of two distributions over bins, as CTEs, the last of them `{{ name }}`: `by`,
    psi            population stability index in nats, empty bins smoothed by half a row
    psi_excess     the part of it that chance does not explain, at least 0
    js_divergence  Jensen-Shannon, in bits
    chi_square     of the 2 x k table (Pearson 1900)
    p_value        the probability of such a chi-square, or a greater one, by chance
    cramers_v      of that table
    bins           number of bins that psi is over
    reference_rows, current_rows
  Distances are null where one side has no rows; p_value and cramers_v also where there is one bin.

  For psi_excess and chi-square, bins that are expected to get less than 0.2 rows on the smaller
  side are pooled into one: each says nothing by itself, and together they would drown the others.

  relation  has `by`, `bin` (a column), reference and current (counts, at least 0; both may be 0),
            one row a bin
-#}
{% macro category_distances(name, relation, by, bin) -%}
    {%- set keys = by | join(', ') -%}
    {%- set all_bins -%}
        partition by {{ keys }}
                order by {{ keys }}
                rows between unbounded preceding and unbounded following
    {%- endset -%}
    {%- set moved -%}
        (reference / nullif(reference_rows, 0) - current / nullif(current_rows, 0))
    {%- endset -%}
    {{ name }}_counts as (
        select
            {{ keys }},
            {{ bin }} as bin,
            reference::double precision as reference,
            current::double precision as current,
            sum(reference::double precision) over (
                {{ all_bins }}
            ) as reference_rows,
            sum(current::double precision) over (
                {{ all_bins }}
            ) as current_rows,
            count(*) over (
                {{ all_bins }}
            ) as bins
        from {{ relation }}
        where reference + current > 0
    ),

    {{ name }}_shares as (
        select
            *,
            reference / nullif(reference_rows, 0) as reference_share,
            current / nullif(current_rows, 0) as current_share,
            {{ headrace.smoothed_share('reference', 'reference_rows', 'bins') }}
                as reference_smoothed,
            {{ headrace.smoothed_share('current', 'current_rows', 'bins') }}
                as current_smoothed,
            (reference + current) * least(reference_rows, current_rows)
            < 0.2 * (reference_rows + current_rows) as is_rare
        from {{ name }}_counts
    ),

    {{ name }}_pooled as (
        select
            {{ keys }},
            is_rare,
            case when not is_rare then bin end as bin,
            sum(reference) as reference,
            sum(current) as current,
            max(reference_rows) as reference_rows,
            max(current_rows) as current_rows,
            max(bins) as bins,
            sum({{ headrace.psi_term('reference_smoothed', 'current_smoothed') }}) as psi,
            sum({{ headrace.js_term('reference_share', 'current_share') }}) as js_divergence
        from {{ name }}_shares
        group by {{ range(1, by | length + 3) | join(', ') }}
    ),

    {{ name }}_places as (
        select
            *,
            count(*) over (
                {{ all_bins }}
            ) as places
        from {{ name }}_pooled
    ),

    {{ name }}_sums as (
        select
            {{ keys }},
            sum(psi) as psi,
            sum(js_divergence) as js_divergence,
            sum(
                {{ headrace.psi_term(
                    headrace.smoothed_share('reference', 'reference_rows', 'places'),
                    headrace.smoothed_share('current', 'current_rows', 'places')
                ) }}
                - {{ headrace.psi_chance(
                    'reference + current', 'reference_rows', 'current_rows', 'places'
                ) }}
            ) as psi_excess,
            sum(
                {{ moved }} * {{ moved }} * reference_rows * current_rows / nullif(reference + current, 0)
            ) as chi_square,
            sum(1 / nullif(reference + current, 0)) as inverses,
            sum(1 / nullif((reference + current) * (reference + current), 0))
                as inverse_squares,
            max(bins) as bins,
            max(places) as places,
            max(reference_rows) as reference_rows,
            max(current_rows) as current_rows
        from {{ name }}_places
        group by {{ keys }}
    ),

    {{ name }}_moments as (
        select
            *,
            {{ headrace.chi_square_mean('places', 'reference_rows + current_rows') }} as mean,
            {{ headrace.chi_square_variance(
                'places', 'inverses', 'reference_rows', 'current_rows'
            ) }} as variance,
            {{ headrace.chi_square_third(
                'places', 'inverses', 'inverse_squares', 'reference_rows', 'current_rows'
            ) }} as third
        from {{ name }}_sums
        {{ headrace.fence() }}
    ),

    {{ name }}_fitted as (
        select
            *,
            {{ headrace.fitted_degrees('places', 'variance', 'third') }} as degrees
        from {{ name }}_moments
        {{ headrace.fence() }}
    ),

    {{ name }}_scaled as (
        select
            *,
            {{ headrace.fitted_statistic('chi_square', 'mean', 'variance', 'degrees') }}
                as scaled
        from {{ name }}_fitted
        {{ headrace.fence() }}
    ),

    {{ name }}_tested as (
        select
            *,
            {{ headrace.chi_square_z('scaled', 'degrees') }} as z
        from {{ name }}_scaled
        {{ headrace.fence() }}
    ),

    {{ name }} as (
        select
            {{ keys }},
            case when chi_square is not null then psi end as psi,
            case
                when chi_square is null then null
                when psi_excess > 0 then psi_excess
                else 0
            end as psi_excess,
            case
                when js_divergence < 0 then 0
                when js_divergence > 1 then 1
                else js_divergence
            end as js_divergence,
            chi_square,
            {{ headrace.chi_square_p_value('scaled', 'degrees', 'z') }} as p_value,
            {{ headrace.cramers_v('chi_square', 'reference_rows + current_rows', 'places - 1') }}
                as cramers_v,
            bins,
            reference_rows::bigint as reference_rows,
            current_rows::bigint as current_rows
        from {{ name }}_tested
        {{ headrace.fence() }}
    )
{%- endmacro %}
