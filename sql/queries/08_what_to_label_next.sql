-- Which predictions should people label next?
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
