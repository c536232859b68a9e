-- What did each experiment show, did a guardrail suffer, and does serving change the labels?
select
    verdicts.model,
    verdicts.experiment,
    verdicts.verdict,
    verdicts.guardrails_violated,
    verdicts.lift,
    verdicts.lift_low,
    verdicts.lift_high,
    arms.share,
    arms.planned_share,
    checks.status as loop_status
from headrace.ab_verdict as verdicts
inner join headrace.ab_assignments as arms
    on
        verdicts.model = arms.model
        and verdicts.experiment = arms.experiment
        and arms.arm = 'treatment'
left join headrace.performative_check as checks
    on
        verdicts.model = checks.model
        and verdicts.experiment = 'holdback';
