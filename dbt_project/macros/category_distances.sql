{#-
  How far two distributions over categories are apart, as CTEs, the last of them `{{ name }}`:
  `by`, psi (population stability index in nats, empty categories smoothed by half a row),
  js_divergence (Jensen-Shannon, in bits), chi_square (Pearson 1900, of the 2 x k table), cramers_v
  (null with one category), degrees (of freedom, k - 1), reference_rows, current_rows. Distances are
  null where one side has no rows.
  relation  has `by`, reference and current (counts, at least 0; both may be 0), one row a category
-#}
{% macro category_distances(name, relation, by) -%}
    {%- set keys = by | join(', ') -%}
    {%- set all_categories -%}
        partition by {{ keys }}
                order by {{ keys }}
                rows between unbounded preceding and unbounded following
    {%- endset -%}
    {{ name }}_counts as (
        select
            {{ keys }},
            reference::double precision as reference,
            current::double precision as current,
            sum(reference::double precision) over (
                {{ all_categories }}
            ) as reference_rows,
            sum(current::double precision) over (
                {{ all_categories }}
            ) as current_rows,
            count(*) over (
                {{ all_categories }}
            ) as categories
        from {{ relation }}
        where reference + current > 0
    ),

    {{ name }}_shares as (
        select
            *,
            reference / nullif(reference_rows, 0) as reference_share,
            current / nullif(current_rows, 0) as current_share,
            {{ headrace.smoothed_share('reference', 'reference_rows', 'categories') }}
                as reference_smoothed,
            {{ headrace.smoothed_share('current', 'current_rows', 'categories') }}
                as current_smoothed
        from {{ name }}_counts
    ),

    {{ name }}_sums as (
        select
            {{ keys }},
            sum({{ headrace.psi_term('reference_smoothed', 'current_smoothed') }}) as psi,
            sum({{ headrace.js_term('reference_share', 'current_share') }}) as js_divergence,
            sum(
                (reference_share - current_share) * (reference_share - current_share)
                * reference_rows * current_rows / nullif(reference + current, 0)
            ) as chi_square,
            max(categories) - 1 as degrees,
            max(reference_rows) as reference_rows,
            max(current_rows) as current_rows
        from {{ name }}_shares
        group by {{ keys }}
    ),

    {{ name }} as (
        select
            {{ keys }},
            case when chi_square is not null then psi end as psi,
            case when js_divergence < 0 then 0 else js_divergence end as js_divergence,
            chi_square,
            {{ headrace.cramers_v('chi_square', 'reference_rows + current_rows', 'degrees') }}
                as cramers_v,
            degrees,
            reference_rows::bigint as reference_rows,
            current_rows::bigint as current_rows
        from {{ name }}_sums
    )
{%- endmacro %}
