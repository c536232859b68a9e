-- How much feedback a model has had, and up to when.
-- grain: model.  key: model.  lateness: any.
{{ config(
    key=['model'],
    drivers=['panes.attributed_feedback'],
    merge={'first_feedback_time': 'min', 'last_feedback_time': 'max'}
) }}

select
    model,
    count(*) as feedback,
    min(feedback_time) as first_feedback_time,
    max(feedback_time) as last_feedback_time
from {{ ref('attributed_feedback') }}
group by model
