-- Each model's own time: the latest event_time of its events, where one that is dated ahead counts
-- as of when it came in. Windows end here and not at the wall's time, so that a replay of last year
-- works as today does; what is dated ahead is in the windows that come later.
-- grain: model.  key: model.  lateness: none; a clock never goes back.
{{ config(stored=true) }}

with activity as (
    select
        model,
        sum(inferences)::bigint as inferences,
        min(first_event_time) as first_event_time,
        max(last_ingested_at) as last_ingested_at
    from {{ ref('model_activity') }}
    group by model
),

heard as (
    select
        model,
        sum(feedback)::bigint as feedback
    from {{ ref('feedback_panes') }}
    where grain = 'ever'
    group by model
)

select
    activity.model,
    activity.inferences,
    coalesce(heard.feedback, 0) as feedback,
    activity.first_event_time,
    clocks.event_clock,
    activity.last_ingested_at
from activity
inner join {{ ref('clocks') }} as clocks on activity.model = clocks.model
left join heard on activity.model = heard.model
