-- What is known of every segment now; Feast serves it online.
-- grain: segment of a model.  key: (model, segment).  lateness: as segment_feature_history.
select distinct on (model, segment)
    model,
    segment,
    event_timestamp,
    labels_30d,
    positives_30d,
    positive_rate_30d
from {{ ref('segment_feature_history') }}
order by model asc, segment asc, event_timestamp desc
