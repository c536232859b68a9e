-- When will a metric cross its threshold if its trend continues?
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
