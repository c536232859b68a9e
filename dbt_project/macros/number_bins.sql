{#-
  The bins that numbers are compared in. A bucket that holds a twentieth of the reference's numbers,
  ten at least, is a bin of its own: codes, flags and constants. The others that the reference held
  fall into tenths of it, whose edges are bucket edges. What it never held lies below or above all
  that it did, or between: there numbers join the tenth around them, but where none of the
  reference's is alone in its bucket, as codes are not, what is new between them is a bin, too.
  With 100 rows in the reference a twentieth without those ten would make bins of chance: up to 10 %
  of features that had not changed had p < 0.001 (100 against 5,000 rows, whole numbers 18 to 89).
  bucket, reference  of this bucket: its number, and rows of the reference in it
  below              rows of the reference in lower buckets
  numbers            rows of the reference in all buckets
-#}
{% macro held_bin(bucket, reference, below, numbers) -%}
    case
        when {{ reference }} >= 10 and 20 * {{ reference }} >= {{ numbers }}
            then 'bucket ' || {{ bucket }}::text
        else 'decile ' || least(floor(10 * {{ below }} / nullif({{ numbers }}, 0)), 9)::text
    end
{%- endmacro %}

{#- lone  buckets that hold one row of the reference -#}
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
  Numbers put into bins, as CTEs, the last of them `{{ name }}`: `by`, bin, first_bucket,
  last_bucket, reference, current.
  relation  has `by`, bucket (each place taken once, rises with the number), reference and current
            (counts, at least 0)
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
            ) as lone
        from {{ relation }}
    ),

    {{ name }} as (
        select
            {{ keys }},
            {{ headrace.number_bin('bucket', 'reference', 'below', 'numbers', 'lone') }} as bin,
            min(bucket) as first_bucket,
            max(bucket) as last_bucket,
            sum(reference) as reference,
            sum(current) as current
        from {{ name }}_placed
        group by {{ range(1, by | length + 2) | join(', ') }}
    )
{%- endmacro %}
