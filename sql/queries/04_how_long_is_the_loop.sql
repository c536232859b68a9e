-- How long from a click to a better model, and where does the time go?
select
    model,
    stage,
    count(*) as versions,
    percentile_cont(0.5) within group (order by seconds) as median_seconds,
    max(seconds) as longest_seconds
from headrace.feedback_loop_latency
group by model, stage, place
order by model, place;
