-- Predictions worth a person's look, the least certain first (Settles 2009). Where a score is the
-- probability of the positive label, uncertainty is 1 - |2 score - 1|, the margin between the two
-- labels turned round; where it is that of the predicted class, 1 - score (least confidence).
-- Looks through a model's newest 5,000 predictions of the last 24 drift_windows (a day at most)
-- of which nobody has said what was right, and keeps 100.
-- grain: prediction without a label.  key: (request_id, model, item_id).
-- lateness: any; a row leaves with its label.
{%- set newest_first %}
    predictions.event_time desc, predictions.request_id desc, predictions.item_id desc
{%- endset %}
with spans as (
    select
        clock.model,
        clock.event_clock - least(24 * policies.drift_window, interval '24 hours')
            as since
    from {{ ref('model_clock') }} as clock
    inner join {{ ref('model_policies') }} as policies on clock.model = policies.model
),

newest as (
    select recent.*
    from spans
    inner join {{ lateral() }} (
        select
            predictions.*,
            row_number() over (
                partition by span.model
                order by {{ newest_first }}
            ) as newness
        from {{ span(['model', 'since']) }} as span
        inner join {{ ref('stg_inference') }} as predictions
            on span.model = predictions.model and span.since < predictions.event_time
        where predictions.variant != 'shadow'
        {{ no_more_than(5000, newest_first) }}
    ) as recent on spans.model = recent.model
    where recent.newness <= 5000
),

open as (
    select
        newest.*,
        case
            when newest.error is not null then 'error'
            when newest.variant = 'explore' then 'explored'
            when newest.score is not null then 'uncertain'
        end as reason,
        case
            when positive.score_of = 'prediction' then newest.score
            else greatest(newest.score, 1 - newest.score)
        end as confidence,
        case
            when positive.score_of = 'prediction' then 1 - newest.score
            else 1 - abs(2 * newest.score - 1)
        end as uncertainty
    from newest
    inner join {{ ref('positive_labels') }} as positive on newest.model = positive.model
    left join {{ ref('labels') }} as labels
        on
            newest.request_id = labels.request_id
            and {{ is_same_prediction('newest', 'labels') }}
    where labels.request_id is null or labels.kind = 'default'
),

ranked as (
    select
        *,
        row_number() over (
            partition by model
            order by
                uncertainty desc nulls last, event_time desc, request_id asc,
                item_id asc
        ) as place
    from open
    where reason is not null
)

select
    -- ids
    request_id,
    model,
    model_version,
    variant,
    segment,
    user_id,
    item_id,
    -- what came out
    prediction,
    score,
    error,
    -- why, and how urgent
    reason,
    confidence,
    uncertainty,
    place,
    event_time
from ranked
where place <= 100
