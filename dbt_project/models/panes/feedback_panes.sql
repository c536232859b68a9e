-- Opinions by the minute in which they were known; never taken back, so any past moment can be
-- asked what was known then.
-- grain: minute, segment and label.  key: all but the measures.  lateness: any.
{{ config(
    key=['model', 'segment', 'pane_start', 'label'],
    drivers=['panes.attributed_feedback'],
    merge={'last_known_at': 'max'}
) }}

select
    {{ pane_start('1 minute', 'known_at') }} as pane_start,
    model,
    segment,
    label,
    count(*) as opinions,
    max(known_at) as last_known_at
from {{ ref('attributed_feedback') }}
where label is not null
group by 1, 2, 3, 4
