-- May the canary be promoted, and how often does a shadow agree?
select
    model,
    model_version,
    verdict,
    reason,
    labels,
    difference,
    always_valid_p_value
from headrace.canary_verdict
union all
select
    model,
    shadow_version as model_version,
    'shadow' as verdict,
    'agrees in ' || round(100 * agreement_rate::numeric) || ' % of predictions'
        as reason,
    compared as labels,
    null as difference,
    null as always_valid_p_value
from headrace.shadow_agreement;
