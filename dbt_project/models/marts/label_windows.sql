-- Which times are compared to tell whether a model's labels have moved, in whole hours.
-- The reference is that of drift_windows. As labels are late, the current window ends with the hour
-- of the newest inference that has one; with a default_label, with the last hour of predictions
-- whose label windows are over. It is metric_window long and never reaches back into the reference.
-- grain: model.  key: model.  lateness: any; a late label may move the current window.
with newest as (
    {{ newest_pane(
        ref('label_panes'),
        "clock = 'inference' and grain = '1 hour' and variant != 'shadow' and examples != 0"
    ) }}
),

asked as (
    {{ newest_pane(ref('request_panes'), "grain = '1 hour' and variant != 'shadow'") }}
),

hours as (
    select
        reference.model,
        reference.model_version,
        policies.metric_window,
        {{ pane_start('1 hour', settled_at('reference.window_end')) }} as settled_hour,
        case
            when policies.default_label is null
                then newest.pane_start + interval '1 hour'
            when asked.pane_start is not null
                then least(
                    asked.pane_start + interval '1 hour',
                    coalesce(
                        {{ pane_start('1 hour', settled_at('reference.window_end')) }},
                        asked.pane_start + interval '1 hour'
                    )
                )
        end as label_clock,
        {{ pane_start('1 hour', 'reference.reference_start') }} as reference_start,
        {{ pane_start('1 hour', 'reference.reference_end') }} + interval '1 hour'
            as reference_end
    from {{ ref('drift_windows') }} as reference
    inner join {{ ref('model_policies') }} as policies
        on reference.model = policies.model
    left join newest on reference.model = newest.model
    left join asked on reference.model = asked.model
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
        as window_end,
    settled_hour
from hours
