-- What a feature looked like when the serving version was trained: the bins that it is compared by.
-- Numbers: buckets that hold a twentieth of the reference, ten numbers at least, and tenths of it
-- for the others, their edges at bucket edges; strings and bools: their categories, and strings
-- beyond the 256 that a pane keeps apart as one; a missing value is a bin of its own. What the reference never held, and is compared by too, has no row here.
-- grain: bin of a feature.  key: (model, feature, bin).
-- lateness: any; late predictions of the reference's time change it, and so does a new champion.
with spans as (
    select * from {{ ref('drift_windows') }}
),

compared as (
    {{ compared_features('spans') }}
),

panes as (
    select * from compared
    where is_reference
),

{{ category_thresholds(
    'thresholds', 'compared', ['model', 'feature', 'type'], ['is_reference', 'pane_start'],
    'category'
) }}

opened as (
    {{ opened_blocks('panes', ['model', 'feature'], sketch_block()) }}
),

buckets as (
    select
        model,
        feature,
        bin as bucket,
        predictions as reference,
        0::bigint as current
    from opened
),

{{ binned_numbers('number_bins', 'buckets', ['model', 'feature']) }},

others as (
    select
        panes.model,
        panes.feature,
        panes.type,
        {{ compared_category('panes.category', 'thresholds') }} as category,
        sum(panes.predictions)::bigint as predictions
    from panes
    {{ join_thresholds('thresholds', 'panes', ['model', 'feature', 'type']) }}
    where panes.block is null
    group by 1, 2, 3, 4
)

select
    model,
    feature,
    bin,
    'number' as type,
    null as category,
    first_bucket,
    last_bucket,
    {{ sketch_value('first_bucket') }} as low,
    {{ sketch_value('last_bucket') }} as high,
    reference::bigint as predictions
from number_bins
union all
select
    model,
    feature,
    case when category is null then type else 'category ' || category end as bin,
    type,
    category,
    null as first_bucket,
    null as last_bucket,
    null as low,
    null as high,
    predictions
from others
