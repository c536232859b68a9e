-- What came under an id that was stored before with other content, and was kept out: the first
-- stays. A sender that repeats itself is counted.
-- grain: content that was kept out.  key: (topic, event_id, content_md5).  lateness: any.
select
    -- ids
    conflicts.topic,
    conflicts.event_id,
    conflicts.content_md5,
    case conflicts.topic
        when 'inference' then conflicts.payload::jsonb ->> 'model'
        when 'feedback' then min(answered.model)
        else min(steps.model)
    end as model,
    -- what was kept out
    conflicts.differing,
    conflicts.payload,
    conflicts.times,
    -- times
    conflicts.ingested_at,
    conflicts.last_ingested_at
from {{ source('events', 'conflicts') }} as conflicts
left join {{ source('events', 'feedback') }} as feedback
    on conflicts.event_id = feedback.feedback_id and conflicts.topic = 'feedback'
left join {{ source('events', 'inference') }} as answered
    on
        feedback.request_id = answered.request_id
        and {{ is_about('feedback', 'answered') }}
left join {{ source('events', 'model_events') }} as steps
    on conflicts.event_id = steps.event_id and conflicts.topic = 'model_events'
group by
    conflicts.topic,
    conflicts.event_id,
    conflicts.content_md5,
    conflicts.differing,
    conflicts.payload,
    conflicts.times,
    conflicts.ingested_at,
    conflicts.last_ingested_at
