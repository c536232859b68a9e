-- Each feedback event is in exactly one of attributed_feedback, once for each prediction that it is
-- about, and orphan_feedback.
select
    feedback.feedback_id,
    count(attributed.feedback_id) as attributed,
    count(orphans.feedback_id) as orphans
from {{ ref('stg_feedback') }} as feedback
left join {{ ref('stg_attributed_feedback') }} as attributed
    on feedback.feedback_id = attributed.feedback_id
left join {{ ref('orphan_feedback') }} as orphans
    on feedback.feedback_id = orphans.feedback_id
group by feedback.feedback_id
having (count(attributed.feedback_id) > 0) = (count(orphans.feedback_id) > 0)
