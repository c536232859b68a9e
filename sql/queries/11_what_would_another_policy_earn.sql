-- What would always predicting the same class have earned, estimated from the log?
select
    model,
    target_policy,
    round(snips::numeric, 4) as value,
    round(snips_low::numeric, 4) as low,
    round(snips_high::numeric, 4) as high,
    round(effective_rows::numeric) as effective_rows,
    status
from headrace.policy_value
order by model asc, snips desc;
