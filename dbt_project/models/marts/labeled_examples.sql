-- What a model can learn from: a prediction beside the label it should have had, which feedback said,
-- or silence (default_label).
-- Status: provisional while the policy label_window is open, final afterwards. The trainer learns
-- from final labels alone. Feedback that comes after that still replaces the label (late_feedback
-- lists it), and runs from then on learn from the new one; runs that are over stay as they were.
-- grain: labelled inference.  key: (request_id, model, item_id).
-- lateness: any; a revision replaces the label, and status turns final when the window closes.
-- Reads the topic itself: a view of a CTE could not be read newest first.
select
    -- ids
    inference.request_id,
    labels.feedback_id,
    inference.model,
    inference.item_id,
    inference.model_version,
    inference.variant,
    inference.segment,
    -- what went in and what came out
    inference.features,
    inference.input,
    inference.prediction,
    inference.score,
    inference.propensity,
    -- what was right
    labels.label,
    labels.reward,
    labels.agreeing::double precision / nullif(labels.raters, 0) as agreement,
    labels.kind,
    labels.source,
    case
        when clock.event_clock >= inference.event_time + policies.label_window
            then 'final'
        else 'provisional'
    end as status,
    -- times
    inference.event_time,
    labels.feedback_time,
    labels.known_at,
    labels.ingested_at
from {{ source('events', 'inference') }} as inference
inner join {{ ref('labels') }} as labels
    on
        inference.request_id = labels.request_id
        and {{ is_same_prediction('inference', 'labels') }}
inner join {{ ref('model_clock') }} as clock on inference.model = clock.model
inner join {{ ref('model_policies') }} as policies on inference.model = policies.model
