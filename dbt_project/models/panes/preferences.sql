-- Pairs of predictions of which a user preferred one, or found them equal. A person has one vote on
-- a pair, whichever of the two is named first, and the last one counts; votes without a user_id
-- count each.
-- Reads the sources: a staging model that is referenced twice would be computed twice, in full.
-- grain: pair whose two predictions have come, and voter.  key: all but what was said.
-- lateness: any; feedback waits in its topic until both its inferences come; a later vote of the
-- same person replaces this one, a retraction takes it back.
-- depends_on: {{ ref('answered_again') }}, {{ ref('waiting_feedback') }}
{{ config(
    key=['one_id', 'other_id', 'model', 'user_id', 'anonymous_id'],
    recompute={
        'events.inference': '
            select least(f.request_id, f.rejected_request_id) from new_rows as n
            inner join events.feedback as f on n.request_id = f.request_id
            where f.rejected_request_id is not null and ' ~ has_feedback() ~ '
            union all
            select least(f.request_id, f.rejected_request_id) from new_rows as n
            inner join events.feedback as f on n.request_id = f.rejected_request_id
            where f.rejected_request_id is not null and ' ~ has_feedback(),
        'events.feedback': '
            select least(request_id, rejected_request_id) from new_rows
            where rejected_request_id is not null
            union all
            select least(f.request_id, f.rejected_request_id) from new_rows as n
            inner join events.feedback as f on n.retracts = f.feedback_id
            where f.rejected_request_id is not null',
    },
    deletes=['events.feedback'],
    retention='400 days',
    time_column='feedback_time'
) }}

with votes as (
    select
        f.feedback_id,
        f.request_id,
        f.rejected_request_id,
        least(f.request_id, f.rejected_request_id) as one_id,
        greatest(f.request_id, f.rejected_request_id) as other_id,
        nullif(f.user_id, '') as user_id,
        case when coalesce(f.user_id, '') = '' then f.feedback_id end as anonymous_id,
        f.kind,
        coalesce(f.value = 0.5, false) as is_tie,
        preferred.model,
        preferred.model_version as preferred_version,
        rejected.model_version as rejected_version,
        preferred.segment,
        {{ in_bytes('preferred.item_id') }} as preferred_item,
        {{ in_bytes('rejected.item_id') }} as rejected_item,
        f.event_time as feedback_time
    from {{ source('events', 'feedback') }} as f
    inner join {{ source('events', 'inference') }} as preferred
        on f.request_id = preferred.request_id and {{ is_about('f', 'preferred') }}
    inner join {{ source('events', 'inference') }} as rejected
        on
            f.rejected_request_id = rejected.request_id
            and rejected.model is not distinct from preferred.model
    where
        f.rejected_request_id is not null
        and {{ is_standing('f', source('events', 'feedback')) }}
),

ordered as (
    select
        *,
        row_number() over (
            partition by one_id, other_id, model, user_id, anonymous_id
            order by
                feedback_time desc, {{ in_bytes('feedback_id') }} desc,
                preferred_item asc, rejected_item asc
        ) as place
    from votes
    where kind = 'preference'
)

select
    one_id,
    other_id,
    model,
    user_id,
    anonymous_id,
    feedback_id,
    request_id,
    rejected_request_id,
    preferred_version,
    rejected_version,
    segment,
    is_tie,
    feedback_time
from ordered
where place = 1
