{#-
  The bins that numbers are compared in. A DDSketch bucket that holds a twentieth of the reference's
  numbers, and ten at least, is a bin of its own: codes, flags and constants. The reference's other
  buckets fall into its deciles, whose edges are bucket edges. Values that the reference never held
  are below or above all of its own, or between them. Those between belong to the decile around
  them, except where every bucket of the reference holds several numbers, as codes do: there they
  are a bin of their own.

  The limit of ten prevents bins made by chance: with 100 rows in the reference and a twentieth
  alone, up to 10 % of features that had not changed had p < 0.001 (100 against 5,000 rows, integers
  18 to 89).
-#}

{#-
  The bin of a bucket that the reference holds.

  bucket     its number
  reference  rows of the reference in it
  below      rows of the reference in lower buckets
  numbers    rows of the reference in all buckets
-#}
{% macro held_bin(bucket, reference, below, numbers) -%}
    case
        when {{ reference }} >= 10 and 20 * {{ reference }} >= {{ numbers }}
            then 'bucket ' || {{ bucket }}::text
        else 'decile ' || least(floor(10 * {{ below }} / nullif({{ numbers }}, 0)), 9)::text
    end
{%- endmacro %}

{#-
  The bin of any bucket.

  lone  number of buckets that hold one row of the reference
-#}
{% macro number_bin(bucket, reference, below, numbers, lone) -%}
    case
        when {{ reference }} > 0
            then {{ headrace.held_bin(bucket, reference, below, numbers) }}
        when {{ below }} = 0 then 'below'
        when {{ below }} = {{ numbers }} then 'above'
        when {{ lone }} = 0 then 'between'
        else {{ headrace.held_bin(bucket, reference, below, numbers) }}
    end
{%- endmacro %}

{#-
  Numbers put into bins, as CTEs, the last of them `{{ name }}`: `by`, bin, low and high (of what the
  reference holds in it), reference, current, and gap: how far apart the two distribution functions
  are at most within the bin. The greatest gap of all bins is the Kolmogorov-Smirnov statistic over
  the buckets. It is null where a side has no numbers.

  relation  has `by`, bucket (without ties; rises with the number), value (that it stands for),
            reference and current (counts, at least 0)
-#}
{% macro binned_numbers(name, relation, by) -%}
    {%- set keys = by | join(', ') -%}
    {%- set all_buckets -%}
        partition by {{ keys }}
                order by bucket
                rows between unbounded preceding and unbounded following
    {%- endset -%}
    {{ name }}_placed as (
        select
            {{ keys }},
            bucket,
            value,
            reference,
            current,
            sum(reference) over (
                partition by {{ keys }}
                order by bucket
                rows between unbounded preceding and current row
            ) - reference as below,
            sum(reference) over (
                {{ all_buckets }}
            ) as numbers,
            sum(case when reference = 1 then 1 else 0 end) over (
                {{ all_buckets }}
            ) as lone,
            sum(current) over (
                partition by {{ keys }}
                order by bucket
                rows between unbounded preceding and current row
            ) as current_so_far,
            sum(current) over (
                {{ all_buckets }}
            ) as current_numbers
        from {{ relation }}
    ),

    {{ name }} as (
        select
            {{ keys }},
            {{ headrace.number_bin('bucket', 'reference', 'below', 'numbers', 'lone') }} as bin,
            min(case when reference > 0 then value end) as low,
            max(case when reference > 0 then value end) as high,
            sum(reference) as reference,
            sum(current) as current,
            max(abs(
                (below + reference)::double precision / nullif(numbers, 0)
                - current_so_far::double precision / nullif(current_numbers, 0)
            )) as gap
        from {{ name }}_placed
        group by {{ range(1, by | length + 2) | join(', ') }}
    )
{%- endmacro %}
