-- Which times of each serving version are compared to tell whether its output has moved.
-- The baseline is the version's first drift_window of predictions, the current window the
-- drift_window before the model's clock; the two never overlap.
-- grain: version that serves: the champion, and every version that predicted in the current window.
-- key: (model, model_version).
-- lateness: any; a late prediction may change the baseline. Both windows are whole panes, of hours
-- where they begin more than two days before the clock.
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
        clock.event_clock,
        {{ minutes_kept_from('clock.event_clock') }} as minutes_from,
        activity.first_event_time as reference_from,
        activity.first_event_time + policies.drift_window as reference_to,
        clock.event_clock - policies.drift_window as window_from
    from activity
    inner join {{ ref('model_clock') }} as clock on activity.model = clock.model
    inner join {{ ref('model_policies') }} as policies
        on activity.model = policies.model
    left join {{ ref('champions') }} as champion on activity.model = champion.model
    where
        activity.model_version = champion.model_version
        or activity.last_event_time >= clock.event_clock - policies.drift_window
),

grains as (
    select
        *,
        {{ kept_grain('reference_from', 'minutes_from') }} as reference_grain,
        {{ kept_grain('window_from', 'minutes_from') }} as window_grain
    from serving
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
