-- The probabilities of each class where it was the label and where it was not: what the AUC of a
-- class against the rest is computed from. By the hour of the inference and by the hour from which
-- its label counts. Of predictions with probabilities of 3 to 100 classes and a label that is a
-- class; rewards are left out. A label without a probability has 0.
-- grain: hour, version, variant, class and whether it was the label.  key: all but the measures.
-- lateness: any; a revised label moves from its old row to the new one.
{{ config(
    key=[
        'model', 'clock', 'grain', 'pane_start', 'model_version', 'variant', 'class',
        'is_label'
    ],
    deltas=['panes.labels'],
    retention='400 days'
) }}

with labelled as (
    select
        labels.request_id,
        labels.item_id,
        labels.model,
        labels.model_version,
        labels.variant,
        labels.inference_time,
        labels.settled_at,
        {{ as_class('labels.label') }} as label,
        inference.probabilities
    from {{ ref('labels') }} as labels
    inner join {{ ref('stg_inference') }} as inference
        on
            labels.request_id = inference.request_id
            and {{ is_same_prediction('labels', 'inference') }}
    where
        labels.settled_at is not null
        and not {{ is_reward('labels.kind') }}
        and jsonb_array_length(
            jsonb_path_query_array(inference.probabilities, 'strict $.*')
        ) between 3 and 100
    {{ fence() }}
),

named as (
    select
        *,
        jsonb_object_keys(probabilities) as name
    from labelled
    where label is not null
),

scored as (
    select
        request_id,
        item_id,
        model,
        model_version,
        variant,
        inference_time,
        settled_at,
        label,
        {{ as_class('name') }} as class,
        (probabilities ->> name)::double precision as score
    from named
    union all
    select
        request_id,
        item_id,
        model,
        model_version,
        variant,
        inference_time,
        settled_at,
        label,
        label as class,
        0::double precision as score
    from labelled
    where label is not null
),

-- Two spellings of a class are one.
judged as (
    select
        model,
        model_version,
        variant,
        inference_time,
        settled_at,
        class,
        label = class as is_label,
        max(score) as score
    from scored
    where class is not null
    group by
        request_id, item_id, model, model_version, variant, inference_time, settled_at,
        label, class
),

binned as (
    select
        model,
        model_version,
        variant,
        unnest(array['inference', 'label']) as clock,
        unnest(array[
            {{ pane_start('1 hour', 'inference_time') }},
            {{ pane_start('1 hour', 'settled_at') }}
        ]) as pane_start,
        class,
        is_label,
        {{ score_bin('score') }} as bin
    from judged
    {{ fence() }}
)

select
    clock,
    '1 hour' as grain,
    pane_start,
    model,
    model_version,
    variant,
    class,
    is_label,
    count(*) as examples,
    {{ block_counts('bin', score_block()) }} as counts
from binned
group by clock, pane_start, model, model_version, variant, class, is_label
