-- Which times of each serving version are compared to tell whether its output has moved.
-- The baseline is the version's first drift_window of predictions, or as much more as min_sample
-- predictions take; the current window the drift_window before the model's clock, or as much more,
-- up to 30 days; the two never overlap. A prediction of another age stretches neither
-- (macros/statistics/samples.sql).
-- grain: version that serves: the champion, and every version that predicted in the current window.
-- key: (model, model_version).
-- lateness: any; a late prediction may change the baseline. Both windows are whole panes, of hours
-- where they begin more than two days before the clock.
{%- set keys = ['model', 'model_version'] %}
with activity as (
    select
        model,
        model_version,
        min(first_event_time) as first_event_time,
        max(last_event_time) as last_event_time
    from {{ ref('model_activity') }}
    where variant != 'shadow'
    group by model, model_version
),

serving as (
    select
        activity.model,
        activity.model_version,
        activity.first_event_time,
        activity.last_event_time,
        clock.event_clock,
        {{ minutes_kept_from('clock.event_clock') }} as minutes_from,
        policies.drift_window,
        policies.min_sample
    from activity
    inner join {{ ref('model_clock') }} as clock on activity.model = clock.model
    inner join {{ ref('model_policies') }} as policies
        on activity.model = policies.model
    left join {{ ref('champions') }} as champion on activity.model = champion.model
    where
        activity.model_version = champion.model_version
        or activity.last_event_time >= clock.event_clock - policies.drift_window
),

beginnings as (
    select
        serving.model,
        serving.model_version,
        serving.event_clock,
        serving.minutes_from,
        serving.drift_window,
        greatest(
            serving.first_event_time,
            coalesce(earliest.first_hour, serving.event_clock - interval '720 hours')
        ) as reference_from,
        earliest.last_hour + interval '59 minutes' as sampled_until,
        {{ window_from(
            'serving.event_clock', 'serving.drift_window', 'serving.minutes_from', 'newest'
        ) }} as window_from
    from serving
    left join {{ lateral() }} (
        {{ first_sample('serving', keys, since='first_event_time') }}
    ) as earliest
        on
            serving.model = earliest.model
            and serving.model_version = earliest.model_version
    left join {{ lateral() }} (
        {{ newest_sample('serving', keys, until='last_event_time') }}
    ) as newest
        on
            serving.model = newest.model
            and serving.model_version = newest.model_version
),

spans as (
    select
        *,
        greatest(reference_from + drift_window, sampled_until) as reference_to
    from beginnings
),

grains as (
    select
        *,
        {{ kept_grain('reference_from', 'minutes_from') }} as reference_grain,
        {{ kept_grain('window_from', 'minutes_from') }} as window_grain
    from spans
),

aligned as (
    select
        *,
        {{ kept_pane('reference_grain', 'reference_from') }} as reference_start,
        {{ next_kept_pane('reference_grain', 'reference_to') }} as reference_end,
        {{ kept_pane('window_grain', 'window_from') }} as first_window_pane
    from grains
)

select
    model,
    model_version,
    reference_start,
    reference_end,
    greatest(first_window_pane, reference_end) as window_start,
    greatest(event_clock, reference_end) as window_end,
    reference_grain,
    window_grain
from aligned
