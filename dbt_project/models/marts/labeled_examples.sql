-- What a model can learn from: a prediction beside the label it should have had.
-- Where the policy default_label is set, silence counts: a prediction without feedback within
-- label_window has that label until feedback comes. Shadow predictions, which nobody saw, and what
-- is older than labels are kept for, stay without one.
-- grain: labelled inference.  key: request_id.
-- lateness: any; a revision replaces the label, and status turns final when the window closes.
-- Reads the topic itself: a view of a CTE could not be read newest first.
select
    -- ids
    inference.request_id,
    labels.feedback_id,
    inference.model,
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
    coalesce(labels.label, policies.default_label) as label,
    case
        when labels.request_id is not null then labels.reward
        when inference.prediction = policies.default_label then 1
        else 0
    end as reward,
    labels.agreeing::double precision / nullif(labels.raters, 0) as agreement,
    coalesce(labels.kind, 'default') as kind,
    coalesce(labels.source, 'system') as source,
    case
        when clock.event_clock >= inference.event_time + policies.label_window
            then 'final'
        else 'provisional'
    end as status,
    -- times
    inference.event_time,
    labels.feedback_time,
    coalesce(labels.known_at, inference.event_time + policies.label_window) as known_at,
    coalesce(labels.ingested_at, inference.ingested_at) as ingested_at
from {{ source('events', 'inference') }} as inference
inner join {{ ref('model_clock') }} as clock on inference.model = clock.model
inner join {{ ref('model_policies') }} as policies on inference.model = policies.model
left join {{ ref('labels') }} as labels on inference.request_id = labels.request_id
where
    labels.request_id is not null
    or (
        policies.default_label is not null
        and inference.variant != 'shadow'
        and inference.event_time + policies.label_window <= clock.event_clock
        and inference.event_time > clock.event_clock - interval '400 days'
    )
