{#-
  Histograms as blocks of bins: a bin is `block * size + place`, and a pane keeps the counts of a
  block in one value, so that many predictions are one update. On PostgreSQL the value is a pgvector
  `vector`, which is added in C (its float4 counts are exact up to 16.7 million a bin and pane); on
  RisingWave an array. Sketch buckets come in blocks of 128; the 256 bins of scores are one block.
-#}

{% macro sketch_block() %}128{% endmacro %}

{% macro score_block() %}256{% endmacro %}

{#- Block and place of a sketch bucket; shifts round down below zero, too. -#}
{% macro bucket_block(bucket) %}({{ bucket }} >> 7){% endmacro %}

{% macro bucket_place(bucket) %}({{ bucket }} & 127){% endmacro %}

{#-
  The counts of one block, an aggregate: how many rows of a group have each `place`, 0 to size - 1;
  null is not counted.

  number  an integer column, where the rows are already grouped by place (each at most once in a
          group): the count of each. Grouping first pays where many rows share a place
-#}
{% macro block_counts(place, size, number=none) -%}
    {{ return(adapter.dispatch('block_counts', 'headrace')(place, size, number)) }}
{%- endmacro %}

{#- The counts of one block, or null where no row has a place: a kilobyte of zeros less. -#}
{% macro block_counts_if_any(place, size) -%}
    case when count({{ place }}) > 0 then {{ headrace.block_counts(place, size) }} end
{%- endmacro %}

{% macro default__block_counts(place, size, number) -%}
    array[
        {%- for bin in range(size | int) -%}
            coalesce(sum({{ number or 1 }}) filter (where {{ place }} = {{ bin }}), 0)
            {{- ', ' if not loop.last }}
        {%- endfor -%}
    ]
{%- endmacro %}

{#-
  Either the text of a sparse vector, a third of the work of `size` filters; or a sum of vectors
  that are 1 at their place, cut out of a constant one between zeros. pgvector counts from 1.
-#}
{% macro postgres__block_counts(place, size, number) -%}
    {%- set size = size | int -%}
    {%- if number -%}
    coalesce(
        '{' || string_agg({{ place }} + 1 || ':' || {{ number }}, ',') || '}/{{ size }}',
        '{}/{{ size }}'
    )::sparsevec::vector
    {%- else -%}
    coalesce(
        sum(subvector(
            '{{ '{' }}{{ size }}:1}/{{ 2 * size - 1 }}'::sparsevec::vector,
            {{ size }} - {{ place }}, {{ size }}
        )),
        '{}/{{ size }}'::sparsevec::vector
    )
    {%- endif -%}
{%- endmacro %}

{% macro risingwave__block_counts(place, size, number) -%}
    {{ headrace.default__block_counts(place, size, number) }}
{%- endmacro %}

{#- The counts of every ring (rings.sql), one after the other: an aggregate, as block_counts. -#}
{% macro ring_counts(finest) -%}
    {%- for level in range(1, (headrace.ring_levels() | int) + 1) -%}
        {{ headrace.block_counts(headrace.ring_place(finest, level), headrace.ring_size()) }}
        {{- ' || ' if not loop.last }}
    {%- endfor -%}
{%- endmacro %}

{#- The sum of blocks of `size` counts, an aggregate. -#}
{% macro added_blocks(counts, size) -%}
    {{ return(adapter.dispatch('added_blocks', 'headrace')(counts, size)) }}
{%- endmacro %}

{% macro default__added_blocks(counts, size) -%}
    array[
        {%- for bin in range(1, (size | int) + 1) -%}
            sum(({{ counts }})[{{ bin }}])::bigint
            {{- ', ' if not loop.last }}
        {%- endfor -%}
    ]
{%- endmacro %}

{% macro postgres__added_blocks(counts, size) -%}
    sum({{ counts }})
{%- endmacro %}

{% macro risingwave__added_blocks(counts, size) -%}
    {{ headrace.default__added_blocks(counts, size) }}
{%- endmacro %}

{#-
  A query that adds blocks and opens them: one row (`by`, bin, predictions) for each bin that is not
  empty.

  relation  has `by`, the counts of a block as `counts` and its number as `block`
  by        columns of the result
  size      bins of a block
  block     '0' where all counts are of one block
-#}
{% macro opened_blocks(relation, by, size, block='block') -%}
    {{ return(adapter.dispatch('opened_blocks', 'headrace')(relation, by, size, block)) }}
{%- endmacro %}

{% macro default__opened_blocks(relation, by, size, block) -%}
    select
        {{ by | join(', ') }},
        block * {{ size }} + place as bin,
        sum(predictions)::bigint as predictions
    from (
        select
            {{ by | join(', ') }},
            {{ block }} as block,
            generate_series(0, {{ size | int - 1 }}) as place,
            unnest(counts) as predictions
        from {{ relation }}
        where {{ block }} is not null
    ) as opened
    where predictions != 0
    group by {{ by | join(', ') }}, block, place
    having sum(predictions) != 0
{%- endmacro %}

{% macro postgres__opened_blocks(relation, by, size, block) -%}
    select
        {{ by | join(', ') }},
        bin,
        predictions::bigint as predictions
    from (
        select
            {{ by | join(', ') }},
            block * {{ size }} + generate_series(0, {{ size | int - 1 }}) as bin,
            unnest(counts::real []) as predictions
        from (
            select
                {{ by | join(', ') }},
                {{ block }} as block,
                sum(counts) as counts
            from {{ relation }}
            where {{ block }} is not null
            group by {{ by | join(', ') }}{{ ', ' ~ block if block != '0' }}
        ) as added
    ) as opened
    where predictions != 0
{%- endmacro %}

{% macro risingwave__opened_blocks(relation, by, size, block) -%}
    {{ headrace.default__opened_blocks(relation, by, size, block) }}
{%- endmacro %}

{#-
  The numbers of feature panes, in the buckets that both sides are compared in, as CTEs, the last of
  them `{{ name }}`: what finest_buckets has.

  relation  rows of compared_features
-#}
{% macro opened_numbers(name, relation, by) -%}
    {%- set keys = by | join(', ') -%}
    {%- set block = headrace.sketch_block() | int -%}
    {{ name }}_blocks as (
        select
            {{ keys }},
            is_reference,
            block as part,
            counts || rings as counts
        from {{ relation }}
        where block is not null
    ),

    {{ name }}_opened as (
        {{ headrace.opened_blocks(
            name ~ '_blocks', by + ['is_reference', 'part'],
            block + (headrace.ring_places() | int), block='0'
        ) }}
    ),

    {{ name }}_placed as (
        select
            {{ keys }},
            part,
            case
                when bin < {{ block }} then 0
                else (bin - {{ block }}) / {{ headrace.ring_size() }} + 1
            end as level,
            case
                when bin < {{ block }} then part * {{ block }} + bin
                else (bin - {{ block }}) & {{ (headrace.ring_size() | int) - 1 }}
            end as place,
            coalesce(sum(predictions) filter (where is_reference), 0) as reference,
            coalesce(sum(predictions) filter (where not is_reference), 0) as current
        from {{ name }}_opened
        group by {{ range(1, by | length + 4) | join(', ') }}
    ),

    {{ headrace.finest_buckets(name, name ~ '_placed', by) }}
{%- endmacro %}
