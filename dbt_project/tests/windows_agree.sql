-- Windows that do not overlap tell the same labels, whatever their length.
select
    model,
    model_version,
    variant,
    count(distinct labeled) as answers
from (
    select
        model,
        model_version,
        variant,
        window_name,
        sum(labeled) as labeled
    from {{ ref('model_performance') }}
    where window_name in ('1 minute', '1 hour', '1 day')
    group by model, model_version, variant, window_name
) as totals
group by model, model_version, variant
having count(distinct labeled) > 1
