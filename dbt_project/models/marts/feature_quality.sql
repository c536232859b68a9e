-- What each feature held in the reference and holds now: values and their types, numbers beyond
-- the reference's range, categories that the reference never had. data_quality judges it. Of strings
-- beyond the 256 that a pane keeps apart, those count that every pane keeps: a sample.
-- Reference and current window are those of drift_windows.
-- grain: feature of a model.  key: (model, feature).
-- lateness: any; late predictions change the window that they belong to.
{%- set parts = {
    'counts': [
        'reference_predictions', 'current_predictions', 'reference_values',
        'current_values', 'reference_main_type', 'current_main_type'
    ],
    'numbers': ['reference_numbers', 'current_numbers', 'current_outside'],
    'categories': [
        'reference_categories', 'current_categories', 'reference_once', 'current_unseen'
    ]
} %}
with spans as (
    select * from {{ ref('drift_windows') }}
),

compared as (
    {{ compared_features('spans') }}
),

panes as (
    select
        *,
        case when is_reference then predictions else 0 end as reference,
        case when is_reference then 0 else predictions end as current
    from compared
),

{{ category_thresholds(
    'thresholds', 'panes', ['model', 'feature', 'type'], ['is_reference', 'pane_start'],
    'category'
) }}

types as (
    select
        model,
        feature,
        type,
        type != 'null' as is_value,
        sum(reference)::bigint as reference,
        sum(current)::bigint as current
    from panes
    group by model, feature, type
),

-- The type that most values of the reference had comes first.
typed as (
    select
        *,
        case when is_value and reference > 0 then
            row_number() over (
                partition by model, feature
                order by
                    case when is_value and reference > 0 then 0 else 1 end asc,
                    reference desc,
                    type asc
            )
        end as place
    from types
),

counts as (
    select
        model,
        feature,
        {%- for side in ['reference', 'current'] %}
        sum({{ side }})::bigint as {{ side }}_predictions,
        coalesce(sum({{ side }}) filter (where is_value), 0)::bigint
            as {{ side }}_values,
        (max({{ side }}) filter (where place = 1))::bigint
            as {{ side }}_main_type{{ ',' if not loop.last }}
        {%- endfor %}
    from typed
    group by model, feature
),

opened as (
    {{ opened_blocks('panes', ['model', 'feature', 'is_reference'], sketch_block()) }}
),

ranges as (
    select
        *,
        min(case when is_reference then bin end) over of_feature as lowest,
        max(case when is_reference then bin end) over of_feature as highest
    from opened
    window of_feature as (
        partition by model, feature
        order by bin
        rows between unbounded preceding and unbounded following
    )
),

numbers as (
    select
        model,
        feature,
        coalesce(sum(predictions) filter (where is_reference), 0)::bigint
            as reference_numbers,
        coalesce(sum(predictions) filter (where not is_reference), 0)::bigint
            as current_numbers,
        coalesce(sum(predictions) filter (where bin < lowest or bin > highest), 0)
        ::bigint as current_outside
    from ranges
    where lowest is not null
    group by model, feature
),

texts as (
    select
        panes.model,
        panes.feature,
        {{ compared_category('panes.category', 'thresholds') }} as category,
        panes.reference,
        panes.current
    from panes
    {{ join_thresholds('thresholds', 'panes', ['model', 'feature', 'type']) }}
    where panes.category is not null
),

category_counts as (
    select
        model,
        feature,
        category,
        sum(reference) as reference,
        sum(current) as current
    from texts
    where category is not null
    group by model, feature, category
),

categories as (
    select
        model,
        feature,
        sum(reference)::bigint as reference_categories,
        sum(current)::bigint as current_categories,
        coalesce(sum(reference) filter (where reference = 1), 0)::bigint
            as reference_once,
        coalesce(sum(current) filter (where reference = 0), 0)::bigint
            as current_unseen
    from category_counts
    group by model, feature
    having sum(reference) > 0
),

-- Not joined: PostgreSQL might then measure a part again for every feature.
measured as (
    {%- for part in parts %}
    {%- if not loop.first %}
    union all
    {%- endif %}
    select
        model,
        feature
        {%- for name, columns in parts.items() %}
        {%- for column in columns %},
        {{ 'null::bigint as ' if name != part }}{{ column }}
        {%- endfor %}
        {%- endfor %}
    from {{ part }}
    {%- endfor %}
)

select
    model,
    feature
    {%- for columns in parts.values() %}
    {%- for column in columns %},
    max({{ column }}) as {{ column }}
    {%- endfor %}
    {%- endfor %}
from measured
group by model, feature
