{#-
  Numbers as finely as they need. A DDSketch bucket is 2 % wide, which is blind to what moves within
  it: air pressures, latitudes, years. So a number is also counted on four rings, as on a vernier.
  The buckets of a ring are an eighth as wide as those before, on the last one 0.0005 %, and have 64
  places in turn, so that eight buckets of one level fill the ring of the next. Counts on rings add
  up, in any order, as those of buckets do.

  A ring says where in a bucket its numbers are as long as they lie within eight buckets of the
  level above. A block of 128 buckets (histograms.sql) is therefore read at the finest level at
  which the levels above it hold all but a hundredth at either end of both sides so close together.
  What is left out lands anywhere on the ring: a distribution function is off by at most its share.
-#}

{% macro ring_levels() %}4{% endmacro %}

{#- Places of a ring, and of all of them. -#}
{% macro ring_size() %}64{% endmacro %}

{% macro ring_places() %}{{ 64 * (headrace.ring_levels() | int) }}{% endmacro %}

{#- By how many bits a level is finer than a bucket: eighths are three. -#}
{% macro level_bits(level) %}{{ 3 * (level | int) }}{% endmacro %}

{#-
  The bucket of a number at the finest level, an integer that is ordered as the numbers are. Shifted
  right by `level_bits(levels)` it is sketch_bucket, and by fewer the bucket of a level between.
-#}
{% macro finest_bucket(x) -%}
    {%- set parts = 2 ** (headrace.level_bits(headrace.ring_levels()) | int) -%}
    {%- set steps = headrace.sketch_width() ~ ' * ' ~ parts ~ ')::integer' -%}
    case
        when {{ x }} = 0 then 0
        when {{ x }} > 0 then {{ 50001 * parts - 1 }} + ceil(ln({{ x }}) / {{ steps }}
        else -{{ 50000 * parts }} - ceil(ln(-({{ x }})) / {{ steps }}
    end
{%- endmacro %}

{#- The sketch bucket of a finest one. -#}
{% macro bucket_of_finest(finest) -%}
    ({{ finest }} >> {{ headrace.level_bits(headrace.ring_levels()) }})
{%- endmacro %}

{#- The place of a finest bucket on the ring of a level, 1 to ring_levels(). -#}
{% macro ring_place(finest, level) -%}
    {%- set bits = headrace.level_bits((headrace.ring_levels() | int) - level) | int -%}
    ({{ '(' ~ finest ~ ' >> ' ~ bits ~ ')' if bits else finest }} & 63)
{%- endmacro %}

{#- The number that a bucket of a level stands for, as sketch_value; level 0 has sketch buckets. -#}
{% macro level_value(bucket, level) -%}
    {%- set parts = 'nullif(1 << (3 * ' ~ level ~ '), 0)' -%}
    {%- set width = headrace.sketch_width() -%}
    {%- set over = '(' ~ headrace.exp_of(width ~ ' / ' ~ parts) ~ ' + 1)' -%}
    case
        when {{ bucket }} = 0 then 0::double precision
        when {{ bucket }} > 0 then
            2 * {{ headrace.exp_of(
                width ~ ' * ((' ~ bucket ~ ' - ' ~ parts ~ ' + 1)::double precision / '
                ~ parts ~ ' - 50000)'
            ) }} / {{ over }}
        when {{ bucket }} < 0 then
            -2 * {{ headrace.exp_of(
                width ~ ' * (-(' ~ bucket ~ ')::double precision / ' ~ parts ~ ' - 50000)'
            ) }} / {{ over }}
    end
{%- endmacro %}

{#-
  The buckets that two sides are compared in, as CTEs, the last of them `{{ name }}`: `by`, bucket
  (the lowest of the finest level in it), value, reference and current.

  relation  has `by`, part (a block), level (0 to ring_levels()), place (the bucket at level 0, else
            that on the ring), reference and current (counts); each number once at every level
-#}
{% macro finest_buckets(name, relation, by) -%}
    {%- set keys = by | join(', ') -%}
    {%- set levels = headrace.ring_levels() | int -%}
    {%- set of_part -%}
        partition by {{ keys }}, part
                order by level
                rows between unbounded preceding and unbounded following
    {%- endset -%}
    {%- set up_to_this -%}
        partition by {{ keys }}, part, level
                order by bucket
                rows between unbounded preceding and current row
    {%- endset -%}
    {{ name }}_at_0 as (
        select
            {{ keys }},
            part,
            level,
            place as bucket,
            reference::double precision as reference,
            current::double precision as current,
            0 as finest,
            {%- for side in ['reference', 'current'] %}
            sum(case when level = 0 then {{ side }}::double precision else 0 end) over (
                {{ of_part }}
            ) as {{ side }}_rows{{ ',' if not loop.last }}
            {%- endfor %}
        from {{ relation }}
    ),
    {%- for level in range(levels) %}

    {{ name }}_sums_{{ level }} as (
        select
            *,
            {%- for side in ['reference', 'current'] %}
            sum({{ side }}) over (
                {{ up_to_this }}
            ) as {{ side }}_up_to{{ ',' if not loop.last }}
            {%- endfor %}
        from {{ name }}_at_{{ level }}
    ),

    {{ name }}_ends_{{ level }} as (
        select
            *,
            min(case
                when level = {{ level }} and (
                    100 * reference_up_to > reference_rows
                    or 100 * current_up_to > current_rows
                ) then bucket
            end) over (
                {{ of_part }}
            ) as low,
            max(case
                when level = {{ level }} and (
                    100 * (reference_up_to - reference) < 99 * reference_rows
                    or 100 * (current_up_to - current) < 99 * current_rows
                ) then bucket
            end) over (
                {{ of_part }}
            ) as high
        from {{ name }}_sums_{{ level }}
    ),

    {{ name }}_starts_{{ level }} as (
        select
            *,
            finest = {{ level }} and high - low < 8 as is_narrow,
            (low - (7 - high + low) / 2) << 3 as start
        from {{ name }}_ends_{{ level }}
    ),

    {{ name }}_at_{{ level + 1 }} as (
        select
            {{ keys }},
            part,
            level,
            case
                when level = {{ level + 1 }} and is_narrow
                    then start + ((bucket - start) & 63)
                else bucket
            end as bucket,
            reference,
            current,
            case when is_narrow then {{ level + 1 }} else finest end as finest,
            reference_rows,
            current_rows
        from {{ name }}_starts_{{ level }}
        where case when is_narrow then level > {{ level }} else level = finest end
    ),
    {%- endfor %}

    {{ name }} as (
        select
            {{ keys }},
            bucket << (3 * ({{ levels }} - level)) as bucket,
            {{ headrace.level_value('bucket', 'level') }} as value,
            reference::bigint as reference,
            current::bigint as current
        from {{ name }}_at_{{ levels }}
    )
{%- endmacro %}
