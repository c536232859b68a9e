-- Label delay: a DDSketch of the seconds from a prediction to the feedback that decided its label.
-- Shadow predictions share the labels of others and are left out, and so is silence.
-- grain: hour in which the label was known, and block of buckets.  key: all but the measures.
-- lateness: any; a revised label moves.
{{ config(
    key=['model', 'pane_start', 'block'],
    deltas=['panes.labels'],
    retention='400 days'
) }}

with waited as (
    select
        model,
        {{ pane_start('1 hour', 'known_at') }} as pane_start,
        extract(epoch from known_at - inference_time)::double precision as seconds
    from {{ ref('labels') }}
    where variant != 'shadow' and kind != 'default'
    {{ fence() }}
),

binned as (
    select
        model,
        pane_start,
        {{ sketch_bucket('seconds') }} as bucket
    from waited
    {{ fence() }}
)

select
    model,
    pane_start,
    {{ bucket_block('bucket') }} as block,
    count(*) as labels,
    {{ block_counts(bucket_place('bucket'), sketch_block()) }} as counts
from binned
group by 1, 2, 3
