-- Labels of predictions with a segment, as they were known at the time: by the minute in which a
-- label became known, and that in which it was revised or taken back.
-- grain: these two minutes, segment and label.  key: all but the measures.
-- lateness: any; late feedback changes what was known from its event_time on.
{{ config(
    key=['model', 'segment', 'pane_start', 'until_start', 'label'],
    deltas=['panes.known_labels'],
    retention='400 days'
) }}

select
    model,
    segment,
    {{ pane_start('1 minute', 'as_of') }} as pane_start,
    {{ pane_start('1 minute', 'until') }} as until_start,
    {{ as_class('label') }} as label,
    count(*) as labels
from {{ ref('known_labels') }}
group by 1, 2, 3, 4, 5
