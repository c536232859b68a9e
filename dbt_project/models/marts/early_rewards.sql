-- Rewards that are dated before the prediction that they reward, by the clocks of the events: of a
-- wrong clock, or about another prediction. They are no rewards, and no labels.
-- grain: early reward and prediction.  key: (feedback_id, model, item_id).
-- lateness: any; feedback of the 30 days behind the model's clock.
-- Read by the feedback's own time (index on event_time) and joined by request, as late_feedback.
select
    -- ids
    feedback.feedback_id,
    feedback.request_id,
    inference.model,
    inference.item_id,
    inference.model_version,
    inference.variant,
    -- what was said
    feedback.kind,
    feedback.source,
    feedback.value,
    feedback.label,
    -- times
    inference.event_time as inference_time,
    feedback.event_time as feedback_time,
    extract(epoch from inference.event_time - feedback.event_time)::double precision
        as early_seconds
from {{ source('events', 'feedback') }} as feedback
inner join {{ source('events', 'inference') }} as inference
    on
        feedback.request_id = inference.request_id
        and {{ is_about('feedback', 'inference') }}
inner join {{ ref('model_clock') }} as clock on inference.model = clock.model
where
    feedback.kind not in ('preference', 'report', 'comment', 'retraction')
    and {{ is_early_reward('feedback', 'inference') }}
    and feedback.event_time > clock.event_clock - interval '720 hours'
