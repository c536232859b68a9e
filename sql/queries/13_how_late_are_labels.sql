-- What share of predictions gets feedback, and how long does it take?
select
    model,
    day,
    predictions,
    label_coverage,
    label_delay_p50_hours,
    label_delay_p95_hours
from headrace.flywheel_health
order by model asc, day desc
limit 60;
