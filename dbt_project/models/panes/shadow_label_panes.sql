-- Which of a shadow prediction and the prediction that was served was right, where both are classes
-- and the label is one.
-- grain: hour of the shadow prediction, shadow and served version.  key: all but the measures.
-- lateness: any; a revised label takes back what it said.
{{ config(
    key=['model', 'pane_start', 'shadow_version', 'served_version'],
    deltas={
        'panes.shadow_pairs': 'select * from new_rows',
        'panes.labels': "select * from new_rows where variant = 'shadow'",
    },
    retention='400 days'
) }}

with judged as (
    select
        pairs.model,
        pairs.event_time,
        pairs.shadow_version,
        pairs.served_version,
        {{ is_right('labels.label', 'pairs.shadow_prediction') }} as shadow_right,
        {{ is_right('labels.label', 'pairs.served_prediction') }} as served_right
    from {{ ref('shadow_pairs') }} as pairs
    inner join {{ ref('labels') }} as labels
        on
            pairs.request_id = labels.request_id
            and {{ is_same_prediction('pairs', 'labels') }}
    where
        labels.settled_at is not null
        and not {{ is_reward('labels.kind') }}
        and {{ as_class('labels.label') }} is not null
        and {{ as_class('pairs.shadow_prediction') }} is not null
        and {{ as_class('pairs.served_prediction') }} is not null
)

select
    model,
    {{ pane_start('1 hour', 'event_time') }} as pane_start,
    shadow_version,
    served_version,
    count(*) as judged,
    count(case when shadow_right > served_right then 1 end) as shadow_right,
    count(case when shadow_right < served_right then 1 end) as served_right
from judged
group by 1, 2, 3, 4
