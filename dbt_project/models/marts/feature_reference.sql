-- What a feature looked like when the serving version was trained: the bins that it is compared by.
-- Numbers: buckets that hold a twentieth of the reference, ten numbers at least, and tenths of it
-- for the others, their edges at bucket edges; strings and bools: their categories, and strings
-- beyond the 256 that a pane keeps apart as one; a missing value is a bin of its own. What the
-- reference never held, and is compared by too, has no row here.
-- Buckets are as fine as both sides allow (macros/statistics/rings.sql).
-- grain: bin of a feature.  key: (model, feature, bin).
-- lateness: any; late predictions of the reference's time change it, and so does a new champion; the
-- current window may change how fine its bins are.
with spans as (
    select * from {{ ref('drift_windows') }}
),

panes as (
    {{ compared_features('spans') }}
),

{{ opened_numbers('buckets', 'panes', ['model', 'feature']) }},

{{ category_thresholds(
    'thresholds', 'panes', ['model', 'feature', 'type'], ['is_reference', 'pane_start'],
    'category'
) }}

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
    where panes.block is null and panes.is_reference
    group by 1, 2, 3, 4
)

select
    model,
    feature,
    bin,
    'number' as type,
    null as category,
    low,
    high,
    reference::bigint as predictions
from number_bins
where reference > 0
union all
select
    model,
    feature,
    case when category is null then type else 'category ' || category end as bin,
    type,
    category,
    null as low,
    null as high,
    predictions
from others
