-- Which panes of a model traffic_quality counts, and since when it looks for silence.
-- Reference and current window are those of drift_windows; silence is looked for in the last hour
-- before the model's clock, or in the last volume_gap, where that is longer, up to two days.
-- grain: model with a prediction that is no shadow's.  key: model.
-- lateness: any; each follows the windows of drift_windows.
with serving as (
    select
        model,
        min(first_event_time) as first_event_time,
        max(last_live_event_time) as last_live_event_time
    from {{ ref('model_activity') }}
    where variant != 'shadow'
    group by model
)

select
    spans.model,
    -- the reference
    spans.reference_start,
    spans.reference_end,
    -- predictions have finer panes than features
    case spans.reference_grain when '1 minute' then '10 seconds' else '1 hour' end
        as reference_grain,
    spans.first_reference_pane,
    {{ next_kept_pane('spans.reference_grain', 'spans.last_reference_pane') }}
        as reference_before,
    -- the current window
    spans.window_start,
    spans.window_end,
    spans.window_grain,
    greatest(
        spans.first_window_pane,
        {{ next_kept_pane('spans.window_grain', 'spans.reference_end') }}
    ) as first_window_pane,
    -- silence
    greatest(
        serving.first_event_time,
        samples.first_hour,
        spans.window_end
        - least(greatest(policies.volume_gap, interval '1 hour'), interval '48 hours')
    ) as recent_start,
    serving.last_live_event_time
from {{ ref('drift_windows') }} as spans
inner join serving on spans.model = serving.model
inner join {{ ref('model_policies') }} as policies on spans.model = policies.model
left join {{ ref('sample_spans') }} as samples on spans.model = samples.model
