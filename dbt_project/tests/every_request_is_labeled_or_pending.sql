-- Every inference is in exactly one of labeled_examples and pending_labels, but for those without a
-- label that nobody awaits: shadow predictions, and those whose label window is over.
select
    inference.request_id,
    count(labeled.request_id) as labeled,
    count(pending.request_id) as pending
from {{ ref('stg_inference') }} as inference
inner join {{ ref('model_clock') }} as clock on inference.model = clock.model
inner join {{ ref('model_policies') }} as policies on inference.model = policies.model
left join {{ ref('labeled_examples') }} as labeled
    on
        inference.request_id = labeled.request_id
        and {{ is_same_prediction('inference', 'labeled') }}
left join {{ ref('pending_labels') }} as pending
    on
        inference.request_id = pending.request_id
        and {{ is_same_prediction('inference', 'pending') }}
group by
    inference.request_id,
    inference.model,
    inference.item_id,
    inference.variant,
    inference.event_time,
    clock.event_clock,
    policies.label_window
having
    count(labeled.request_id) + count(pending.request_id) > 1
    or (
        count(labeled.request_id) + count(pending.request_id) = 0
        and inference.variant != 'shadow'
        and (
            policies.label_window = interval '0 seconds'
            or clock.event_clock < inference.event_time + policies.label_window
        )
    )
