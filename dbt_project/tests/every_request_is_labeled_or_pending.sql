-- Every inference is in exactly one of labeled_examples and pending_labels, except those that have
-- a default label: it does not end the wait.
select
    inference.request_id,
    count(labeled.request_id) as labeled,
    count(pending.request_id) as pending
from {{ ref('stg_inference') }} as inference
left join {{ ref('labeled_examples') }} as labeled
    on inference.request_id = labeled.request_id and labeled.kind != 'default'
left join {{ ref('pending_labels') }} as pending
    on inference.request_id = pending.request_id
group by inference.request_id
having count(labeled.request_id) + count(pending.request_id) != 1
