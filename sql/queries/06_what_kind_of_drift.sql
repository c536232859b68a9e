-- Did the input, the labels or the relation between them change, and suddenly or gradually?
select
    summary.model,
    summary.drift,
    summary.explanation,
    concept.onset,
    concept.drifted_since
from headrace.drift_summary as summary
left join headrace.concept_drift as concept on summary.model = concept.model
order by summary.model;
