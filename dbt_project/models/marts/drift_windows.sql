-- Which times are compared to tell whether a model's world has moved.
-- The reference is what the champion was trained on, else, also where it does not answer, the model's
-- first drift_window; the
-- current window is the drift_window before the model's clock, and never reaches back into the
-- reference, so that nothing is compared with itself.
-- grain: model.  key: model.  lateness: none; both follow the clock and the champion.
-- Minute panes are kept for two days: what is older is read by the hour.
{{ config(stored=true) }}

with champion as (
    select
        model,
        model_version,
        {{ metric_time('train_from') }} as train_from,
        {{ metric_time('train_to') }} as train_to
    from {{ ref('champions') }}
    where is_serving
),

reference as (
    select
        clock.model,
        champion.model_version,
        clock.event_clock,
        policies.drift_window,
        coalesce(champion.train_from, clock.first_event_time) as reference_start,
        coalesce(champion.train_to, clock.first_event_time + policies.drift_window)
            as reference_end
    from {{ ref('model_clock') }} as clock
    inner join {{ ref('model_policies') }} as policies on clock.model = policies.model
    left join champion on clock.model = champion.model
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
        {{ pane_start('1 hour', 'event_clock') }} - interval '2 days' as fine_from
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
    case when reference_start < fine_from then '1 hour' else '1 minute' end
        as reference_grain,
    case when window_start < fine_from then '1 hour' else '1 minute' end
        as window_grain,
    case
        when reference_start < fine_from
            then {{ pane_start('1 hour', 'reference_start') }}
        else {{ pane_start('1 minute', 'reference_start') }}
    end as first_reference_pane,
    case
        when reference_start < fine_from
            then greatest(
                {{ pane_start('1 hour', '(reference_end - interval \'1 hour\')') }},
                {{ pane_start('1 hour', 'reference_start') }}
            )
        else reference_end
    end as last_reference_pane,
    case
        when window_start < fine_from then {{ pane_start('1 hour', 'window_start') }}
        else {{ pane_start('1 minute', 'window_start') }}
    end as first_window_pane
from grains
