-- Requests with several predictions: of several models, or of several items. Feedback on one of them
-- may be about the others, too, so panes look here for feedback on a new prediction; this pane must
-- be updated before them: triggers fire in the order of their names.
-- grain: request with several predictions.  key: request_id.  lateness: any.
{{ config(
    key=['request_id'],
    recompute={
        'events.inference': '
            select n.request_id from new_rows as n
            where exists (
                select from events.inference as other
                where
                    n.request_id = other.request_id
                    and not (' ~ is_same_prediction('n', 'other') ~ ')
            )',
    }
) }}

select
    request_id,
    count(*) as predictions
from {{ source('events', 'inference') }}
group by request_id
having count(*) > 1
