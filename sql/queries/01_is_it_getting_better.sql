-- Is each new version better than the one before it, on the predictions it gave?
select
    model,
    model_version,
    min(window_start) as since,
    sum(inferences) as predictions,
    sum(labeled) as labels,
    sum(auc * labeled) / nullif(sum(labeled) filter (where auc is not null), 0)
        as mean_daily_auc
from headrace.model_performance
where window_name = '1 day' and variant = 'champion'
group by model, model_version
order by model, since;
