-- How often users preferred one version's prediction to another's, or found them equal.
-- grain: hour, preferred and rejected version, segment.  key: all but the measures.
-- lateness: any; a vote that was changed or taken back leaves its row.
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
    count(case when not is_tie then 1 end) as preferences,
    count(case when is_tie then 1 end) as ties
from {{ ref('preferences') }}
group by 1, 2, 3, 4, 5
