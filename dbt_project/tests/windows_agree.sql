-- Windows that do not overlap count the same labels, whatever their length, where both are kept
-- whole: minutes for two days behind the model's clock, hours for 400, less the hour or day that
-- this begins in.
with kept as (
    select
        performance.*,
        {{ pane_start('1 hour', 'clock.event_clock') }} - interval '47 hours'
        <= performance.window_start as has_minutes,
        {{ pane_start('1 day', 'clock.event_clock') }} - interval '9576 hours'
        <= performance.window_start as has_hours
    from {{ ref('model_performance') }} as performance
    inner join {{ ref('model_clock') }} as clock on performance.model = clock.model
),

totals as (
    select
        model,
        model_version,
        variant,
        sum(case when window_name = '1 minute' and has_minutes then labeled end)
            as in_minutes,
        sum(case when window_name = '1 hour' and has_minutes then labeled end)
            as in_their_hours,
        sum(case when window_name = '1 hour' and has_hours then labeled end)
            as in_hours,
        sum(case when window_name = '1 day' and has_hours then labeled end)
            as in_their_days
    from kept
    where window_name in ('1 minute', '1 hour', '1 day')
    group by model, model_version, variant
)

select *
from totals
where
    in_minutes is distinct from in_their_hours
    or in_hours is distinct from in_their_days
