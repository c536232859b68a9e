-- Predictions that have no label yet.
-- grain: inference without a label.  key: request_id.
-- lateness: any; a row leaves when its label comes. Age is by the model's clock.
-- Reads the topic itself: a view of a CTE could not be read newest first.
select
    inference.request_id,
    inference.model,
    inference.model_version,
    inference.variant,
    inference.segment,
    inference.prediction,
    inference.score,
    inference.event_time,
    greatest(clock.event_clock - inference.event_time, interval '0 seconds') as age,
    clock.event_clock >= inference.event_time + policies.label_window as overdue
from {{ source('events', 'inference') }} as inference
inner join {{ ref('model_clock') }} as clock on inference.model = clock.model
inner join {{ ref('model_policies') }} as policies on inference.model = policies.model
left join {{ ref('labels') }} as labels on inference.request_id = labels.request_id
where labels.request_id is null
