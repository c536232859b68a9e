-- Which times are compared to tell whether a model's world has moved.
-- The reference is what the champion was trained on, the last 30 days of it. Without a champion
-- that serves, or where it does not tell, it is the model's first drift_window, or as much more as
-- min_sample predictions take. The current window is the drift_window before the model's clock, or
-- as much more, up to 30 days. It never reaches back into the reference: nothing is compared with
-- itself. A prediction of another age stretches neither (sample_spans).
-- grain: model.  key: model.  lateness: any; both follow the clock, the champion and sample_spans.
{{ config(stored=true) }}

with models as (
    select
        clock.model,
        champion.model_version,
        clock.event_clock,
        policies.drift_window,
        {{ minutes_kept_from('clock.event_clock') }} as minutes_from,
        {{ metric_time('train_from', 'champion.metrics') }} as train_from,
        {{ metric_time('train_to', 'champion.metrics') }} as train_to,
        greatest(
            clock.first_event_time,
            coalesce(samples.first_hour, clock.event_clock - interval '720 hours')
        ) as began_at,
        samples.last_hour + interval '1 hour' as sampled_until,
        {{ window_from(
            'clock.event_clock', 'policies.drift_window',
            minutes_kept_from('clock.event_clock'), 'samples'
        ) }} as window_from
    from {{ watched_models() }}
    left join {{ ref('sample_spans') }} as samples on clock.model = samples.model
),

reference as (
    select
        *,
        case
            when train_from <= train_to
                then greatest(train_from, train_to - interval '720 hours')
            else began_at
        end as reference_start,
        case
            when train_from <= train_to then train_to
            else greatest(began_at + drift_window, sampled_until)
        end as reference_end
    from models
),

spans as (
    select
        *,
        least(greatest(window_from, reference_end), event_clock) as window_start
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
