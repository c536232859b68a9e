-- What a model can learn from: an answer beside the label it should have had.
-- grain: labelled inference.  key: request_id.
-- lateness: any; a revision replaces the label, and status turns final when the window closes.
select
    -- ids
    labels.request_id,
    labels.feedback_id,
    labels.model,
    labels.model_version,
    labels.variant,
    labels.segment,
    -- what went in and what came out
    inference.features,
    inference.input,
    labels.prediction,
    labels.score,
    inference.propensity,
    -- what was right
    labels.label,
    labels.kind,
    labels.source,
    case
        when clock.event_clock >= labels.inference_time + policies.label_window
            then 'final'
        else 'provisional'
    end as status,
    -- times
    labels.inference_time as event_time,
    labels.feedback_time,
    labels.known_at,
    labels.ingested_at
from {{ ref('labels') }} as labels
inner join {{ ref('stg_inference') }} as inference
    on labels.request_id = inference.request_id
inner join {{ ref('model_clock') }} as clock on labels.model = clock.model
inner join {{ ref('model_policies') }} as policies on labels.model = policies.model
