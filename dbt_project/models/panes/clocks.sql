-- Each model's own time, which model_clock shows and by which label windows close: the latest
-- event_time of its predictions and of the feedback on them. And whether it hears values.
-- grain: model.  key: model.  lateness: none; a clock never goes back.
{{ config(
    key=['model'],
    deltas=['panes.model_activity', 'panes.feedback_panes'],
    apart=true,
    merge={'event_clock': 'max', 'hears_values': 'max'}
) }}

select
    model,
    max(event_time) as event_clock,
    max(hears_values) as hears_values
from (
    select
        answered.model,
        answered.last_event_time as event_time,
        0 as hears_values
    from {{ ref('model_activity') }} as answered
    union all
    select
        heard.model,
        heard.last_feedback_time as event_time,
        case when {{ is_reward('heard.kind') }} then 1 else 0 end as hears_values
    from {{ ref('feedback_panes') }} as heard
    where heard.grain = 'ever'
) as events
group by model
