-- Which times are compared to tell whether a model's labels have moved, in whole hours.
-- The reference is that of drift_windows. As labels are late, the current window ends with the hour
-- of the newest inference that has one. It is metric_window long and never reaches back into the
-- reference.
-- grain: model.  key: model.  lateness: any; a late label may move the current window.
with newest as (
    {{ newest_pane(
        ref('label_panes'),
        "clock = 'inference' and grain = '1 hour' and variant != 'shadow' and examples != 0"
    ) }}
),

hours as (
    select
        reference.model,
        reference.model_version,
        policies.metric_window,
        newest.pane_start + interval '1 hour' as label_clock,
        {{ pane_start('1 hour', 'reference.reference_start') }} as reference_start,
        {{ pane_start('1 hour', 'reference.reference_end') }} + interval '1 hour'
            as reference_end
    from {{ ref('drift_windows') }} as reference
    inner join {{ ref('model_policies') }} as policies
        on reference.model = policies.model
    left join newest on reference.model = newest.model
)

select
    model,
    model_version,
    reference_start,
    reference_end,
    case when label_clock is not null then greatest(
        {{ pane_start('1 hour', '(label_clock - metric_window)') }}, reference_end
    ) end as window_start,
    case when label_clock is not null then greatest(label_clock, reference_end) end
        as window_end
from hours
