-- Which times are compared to tell whether a model's world has moved.
-- The reference is what the champion was trained on. Without a champion that serves, or where it
-- does not tell, it is the model's first drift_window. The current window is the drift_window
-- before the model's clock, and never reaches back into the reference: nothing is compared with
-- itself.
-- grain: model.  key: model.  lateness: none; both follow the clock and the champion.
{{ config(stored=true) }}

with reference as (
    select
        clock.model,
        champion.model_version,
        clock.event_clock,
        policies.drift_window,
        {{ minutes_kept_from('clock.event_clock') }} as minutes_from,
        coalesce(
            {{ metric_time('train_from', 'champion.metrics') }}, clock.first_event_time
        ) as reference_start,
        coalesce(
            {{ metric_time('train_to', 'champion.metrics') }},
            clock.first_event_time + policies.drift_window
        ) as reference_end
    from {{ watched_models() }}
),

spans as (
    select
        *,
        least(greatest(event_clock - drift_window, reference_end), event_clock)
            as window_start
    from reference
),

grains as (
    select
        *,
        {{ kept_grain('reference_start', 'minutes_from') }} as reference_grain,
        {{ kept_grain('window_start', 'minutes_from') }} as window_grain
    from spans
)

select
    model,
    model_version,
    reference_start,
    reference_end,
    window_start,
    event_clock as window_end,
    -- where the panes of both are found: the first and the last pane_start of a grain
    reference_grain,
    window_grain,
    {{ kept_pane('reference_grain', 'reference_start') }} as first_reference_pane,
    case
        when reference_grain = '1 hour'
            then greatest(
                {{ pane_start('1 hour', '(reference_end - interval \'1 hour\')') }},
                {{ pane_start('1 hour', 'reference_start') }}
            )
        else reference_end
    end as last_reference_pane,
    {{ kept_pane('window_grain', 'window_start') }} as first_window_pane
from grains
