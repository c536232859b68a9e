-- Which predictions are most worth a person's look?
select
    model,
    request_id,
    prediction,
    score,
    uncertainty,
    reason
from headrace.review_queue
order by uncertainty desc
limit 20;
