-- Feedback that came after their prediction's label window had closed: how late, and whether the
-- label is theirs all the same.
-- grain: late feedback with a label, and prediction.  key: (feedback_id, model, item_id).
-- lateness: any; feedback of the 30 days behind the model's clock.
-- Read by the feedback's own time (index on event_time) and joined by request, so that the newest
-- come first at once; reads the topics themselves, as a view of a CTE could not.
select
    -- ids
    feedback.feedback_id,
    feedback.request_id,
    inference.model,
    inference.item_id,
    inference.model_version,
    inference.variant,
    inference.segment,
    -- what was said
    feedback.kind,
    feedback.source,
    coalesce(feedback.label, {{ number_text('feedback.value') }}) as label,
    labels.label as held_label,
    coalesce(labels.feedback_id = feedback.feedback_id, false) as decides_label,
    -- times
    inference.event_time as inference_time,
    feedback.event_time as feedback_time,
    greatest(feedback.ingested_at, inference.ingested_at) as ingested_at,
    extract(
        epoch from feedback.event_time - (inference.event_time + policies.label_window)
    )::double precision as late_seconds
from {{ source('events', 'feedback') }} as feedback
inner join {{ source('events', 'inference') }} as inference
    on
        feedback.request_id = inference.request_id
        and {{ is_about('feedback', 'inference') }}
inner join {{ ref('model_clock') }} as clock on inference.model = clock.model
inner join {{ ref('model_policies') }} as policies on inference.model = policies.model
left join {{ ref('labels') }} as labels
    on
        inference.request_id = labels.request_id
        and {{ is_same_prediction('inference', 'labels') }}
where
    feedback.kind not in ('preference', 'report', 'comment', 'retraction')
    and (feedback.label is not null or feedback.value is not null)
    and feedback.event_time > inference.event_time + policies.label_window
    and feedback.event_time > clock.event_clock - interval '720 hours'
