-- Feedback with each prediction that it is about, whichever came first.
-- Feedback whose prediction has not come is in orphan_feedback.
-- grain: feedback and prediction.  key: (feedback_id, model, item_id).
-- lateness: any; a row appears when both are there.
select
    feedback_id,
    request_id,
    model,
    item_id,
    model_version,
    variant,
    endpoint,
    segment,
    prediction,
    score,
    kind,
    source,
    label,
    inference_time,
    feedback_time,
    known_at,
    ingested_at
from {{ ref('stg_attributed_feedback') }}
