-- How do the last five minutes look, for every version that serves?
select
    model,
    model_version,
    variant,
    inferences,
    error_rate,
    latency_p95_ms,
    mean_score
from headrace.model_performance
where
    window_name = '5 minutes'
    and window_end > (select max(c.event_clock) from headrace.model_clock as c)
order by model asc, inferences desc;
