-- The lengths of texts and the words in them: of input, output, and features that are texts.
-- Shadow predictions repeat the texts of others and are left out. A word falls by its hash into one
-- of 256 places; of each place the texts are counted that have a word there, however often, because
-- the words of one text depend on each other, and texts do not.
-- grain: pane of 1 hour by field, measure and block of buckets.
-- key: all but the measures.  lateness: any.
{{ config(
    key=['model', 'pane_start', 'field', 'measure', 'block'],
    deltas=['events.inference'],
    parallel=true,
    retention='400 days'
) }}

with told as (
    select
        request_id,
        model,
        item_id,
        {{ pane_start('1 hour', 'event_time') }} as pane_start,
        features,
        input,
        output
    from {{ ref('stg_inference') }}
    where variant != 'shadow'
),

named as (
    select
        request_id,
        model,
        item_id,
        pane_start,
        features,
        jsonb_object_keys(features) as feature
    from told
),

valued as (
    select
        *,
        features ->> feature as text
    from named
    {{ fence() }}
),

ranked as (
    select
        request_id,
        model,
        item_id,
        pane_start,
        feature,
        text,
        row_number() over (
            partition by request_id, model, item_id
            order by {{ in_bytes('feature') }}
        ) as place
    from valued
    where {{ is_text('text') }} and jsonb_typeof(features -> feature) = 'string'
),

said as (
    {%- for field in ['input', 'output'] %}
    select
        request_id,
        model,
        item_id,
        pane_start,
        '{{ field }}' as field,
        {{ text_of(field) }} as text
    from told
    where {{ field }} is not null
    union all
    {%- endfor %}
    select
        request_id,
        model,
        item_id,
        pane_start,
        'features.' || feature as field,
        text
    from ranked
    where place <= {{ text_features() }}
),

texts {{ as_materialized() }} (
    select * from said
    where text != ''
),

words as (
    select
        request_id,
        model,
        item_id,
        pane_start,
        field,
        unnest({{ words_of('text') }}) as word
    from texts
),

hashed as (
    select
        request_id,
        model,
        item_id,
        pane_start,
        field,
        {{ word_hash('word') }} as hash
    from words
    where trim(word) != ''
    group by 1, 2, 3, 4, 5, 6
),

counted as (
    select
        pane_start,
        model,
        field,
        'length' as measure,
        {{ sketch_bucket('length(text)') }} as bucket,
        count(*)::integer as texts
    from texts
    group by 1, 2, 3, 4, 5
    union all
    select
        pane_start,
        model,
        field,
        'vocabulary' as measure,
        {{ word_place('hash') }} as bucket,
        count(*)::integer as texts
    from hashed
    group by 1, 2, 3, 4, 5
)

select
    pane_start,
    model,
    field,
    measure,
    {{ bucket_block('bucket') }} as block,
    sum(texts)::bigint as texts,
    {{ block_counts(bucket_place('bucket'), sketch_block(), 'texts') }} as counts
from counted
group by 1, 2, 3, 4, 5
