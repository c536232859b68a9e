-- Sessions of users: their predictions, and the feedback on them.
-- A session is the application's own where it names one; else it lasts until the user is inactive
-- for longer than session_gap (session windows: Akidau et al. 2015).
-- grain: session of a user.  key: (model, user_id, session_id, session_start); session_id is null
-- where the application names none.
-- lateness: any; a late prediction may join two sessions. Predictions of the 30 days behind the
-- model's
-- clock count, without shadow predictions: a session across that edge is cut there.
with predictions as (
    select
        inference.model,
        inference.user_id,
        inference.session_id,
        inference.request_id,
        inference.item_id,
        inference.error,
        inference.event_time,
        clock.event_clock,
        policies.session_gap
    from {{ ref('stg_inference') }} as inference
    inner join {{ ref('model_clock') }} as clock on inference.model = clock.model
    inner join {{ ref('model_policies') }} as policies
        on inference.model = policies.model
    where
        inference.user_id is not null
        and inference.variant != 'shadow'
        and inference.event_time > clock.event_clock - interval '720 hours'
),

after_a_gap as (
    select
        *,
        case
            when
                session_id is null
                and event_time - session_gap > lag(event_time) over (
                    partition by model, user_id, session_id
                    order by event_time asc, request_id asc, item_id asc
                )
                then 1
            else 0
        end as begins
    from predictions
),

numbered as (
    select
        *,
        sum(begins) over (
            partition by model, user_id, session_id
            order by event_time asc, request_id asc, item_id asc
            rows between unbounded preceding and current row
        ) as number
    from after_a_gap
)

select
    numbered.model,
    numbered.user_id,
    numbered.session_id,
    min(numbered.event_time) as session_start,
    max(numbered.event_time) as session_end,
    extract(epoch from max(numbered.event_time) - min(numbered.event_time))
    ::double precision as seconds,
    max(numbered.event_time) >= max(numbered.event_clock - numbered.session_gap)
        as is_open,
    count(*) as predictions,
    count(numbered.error) as errors,
    count(distinct numbered.item_id) as items,
    count(labels.request_id) as labels,
    coalesce(sum({{ exact('labels.reward') }}), 0)::double precision as reward
from numbered
left join {{ ref('labels') }} as labels
    on
        numbered.model = labels.model
        and numbered.user_id = labels.user_id
        and numbered.request_id = labels.request_id
        and numbered.item_id is not distinct from labels.item_id
        and labels.settled_at is not null
group by
    numbered.model,
    numbered.user_id,
    numbered.session_id,
    numbered.number
