-- Predictions worth a person's look: first those that people dispute (of whoever said what was right,
-- no more than half say the same), then those that a shadow version disagrees with, then the least
-- certain (Settles 2009). Where a score is the probability of the positive label, uncertainty is
-- 1 - |2 score - 1|, the margin between the two labels turned round; where it is that of the
-- predicted class, 1 - score (least confidence). What a reviewer skipped comes last.
-- A share of the reviewed ones (review_overlap) stays for a second opinion.
-- Looks through a model's newest 5,000 predictions of the last 24 drift_windows (a day at most),
-- and keeps 100. Shadows are read from the source: a staging model that is referenced twice would be
-- computed in full.
-- grain: prediction without a settled label.  key: (request_id, model, item_id).
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

reviewed as (
    select
        model,
        request_id,
        item_id,
        max(case when is_doubled then 1 else 0 end) as is_doubled,
        sum(case step when 'skipped' then 1 when 'unskipped' then -1 else 0 end)::bigint
            as skips
    from {{ source('control', 'reviews') }}
    group by model, request_id, item_id
),

open as (
    select
        newest.*,
        coalesce(labels.raters, 0)::bigint as raters,
        coalesce(reviewed.skips, 0)::bigint as skips,
        row_number() over (
            partition by newest.request_id, newest.model, newest.item_id
            order by shadows.request_id
        ) as shadow_number,
        case
            when labels.raters > 1 then 'disputed'
            when labels.raters = 1 then 'second_opinion'
            when newest.error is not null then 'error'
            when newest.variant = 'explore' then 'explored'
            when shadows.request_id is not null then 'disagreement'
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
    left join {{ source('events', 'inference') }} as shadows
        on
            newest.request_id = shadows.shadow_of
            and {{ is_same_prediction('newest', 'shadows') }}
            and {{ as_class('newest.prediction') }}
            != {{ as_class('shadows.prediction') }}
    left join reviewed
        on
            newest.request_id = reviewed.request_id
            and {{ is_same_prediction('newest', 'reviewed') }}
    where
        labels.request_id is null
        or labels.kind = 'default'
        or (
            labels.kind in ('label', 'correction')
            and labels.raters > 1
            and 2 * labels.agreeing <= labels.raters
            and {{ as_class('labels.label') }} is not null
        )
        or (
            labels.kind = 'label'
            and labels.source = 'human'
            and labels.raters = 1
            and reviewed.is_doubled = 1
        )
),

ranked as (
    select
        *,
        row_number() over (
            partition by model
            order by
                skips asc,
                case reason when 'disputed' then 0 when 'disagreement' then 1 else 2 end
                asc,
                uncertainty desc nulls last, event_time desc, request_id asc,
                item_id asc
        ) as place
    from open
    where reason is not null and shadow_number = 1
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
    raters,
    skips,
    place,
    event_time
from ranked
where place <= 100
