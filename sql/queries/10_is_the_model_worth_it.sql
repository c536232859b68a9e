-- What is the model worth against the predictions that were held out from it?
select
    model,
    mean_reward,
    holdout_mean_reward,
    difference,
    p_value,
    status
from headrace.holdout_comparison;
