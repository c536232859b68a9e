-- Predictions whose label is awaited: they have none, and their label window is open, or there is no
-- window (policy label_window 0). Nobody awaits a label of a shadow prediction.
-- grain: inference without a label.  key: (request_id, model, item_id).
-- lateness: any; a row leaves when its label comes or its window closes. Age is by the model's clock.
-- Reads the topic itself: a view of a CTE could not be read newest first.
select
    inference.request_id,
    inference.model,
    inference.item_id,
    inference.model_version,
    inference.variant,
    inference.segment,
    inference.prediction,
    inference.score,
    inference.event_time,
    greatest(clock.event_clock - inference.event_time, interval '0 seconds') as age,
    case
        when policies.label_window > interval '0 seconds'
            then inference.event_time + policies.label_window
    end as closes_at
from {{ source('events', 'inference') }} as inference
inner join {{ ref('model_clock') }} as clock on inference.model = clock.model
inner join {{ ref('model_policies') }} as policies on inference.model = policies.model
left join {{ ref('labels') }} as labels
    on
        inference.request_id = labels.request_id
        and {{ is_same_prediction('inference', 'labels') }}
where
    labels.request_id is null
    and inference.variant != 'shadow'
    and (
        policies.label_window = interval '0 seconds'
        or clock.event_clock < inference.event_time + policies.label_window
    )
