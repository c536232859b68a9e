-- What is held to be right about an answer: the latest feedback that carries a label.
-- grain: labelled inference.  key: request_id.  lateness: any; a revision replaces the label.
{{ config(
    key=['request_id'],
    drivers=['panes.attributed_feedback'],
    merge={'latest_by': ['feedback_time', 'feedback_id']},
    indexes=[['model', 'ingested_at']]
) }}

select distinct on (request_id)
    request_id,
    feedback_id,
    model,
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
from {{ ref('attributed_feedback') }}
where label is not null
order by request_id asc, feedback_time desc, feedback_id desc
