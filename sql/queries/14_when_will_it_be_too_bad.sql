-- When is a metric going to cross its threshold, if it goes on like this?
select
    model,
    metric,
    value_now,
    slope_per_day,
    threshold,
    crosses_at,
    r_squared
from headrace.metric_forecast
order by crosses_at nulls last;
