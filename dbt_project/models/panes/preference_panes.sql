-- How often users preferred one version's prediction to another's.
-- grain: hour, preferred and rejected version, segment.  key: all but the measures.
-- lateness: any.
{{ config(
    key=['model', 'pane_start', 'preferred_version', 'rejected_version', 'segment'],
    deltas=['panes.preferences'],
    retention='400 days'
) }}

select
    model,
    {{ pane_start('1 hour', 'feedback_time') }} as pane_start,
    preferred_version,
    rejected_version,
    segment,
    count(*) as preferences
from {{ ref('preferences') }}
group by 1, 2, 3, 4, 5
