-- What people said about each version, day by day: how much feedback, the share of thumbs up, reports
-- and conversions.
-- The last 30 days behind the model's clock, without shadow predictions. Predictions count on the
-- day on which they were given, feedback on the day on which it became known.
-- grain: day of a version with predictions or feedback.  key: (model, model_version, day).
-- lateness: any; feedback counts on the day on which it became known.
with bounds as (
    select
        model,
        {{ pane_start('1 day', 'event_clock') }} - interval '696 hours' as first_day
    from {{ ref('model_clock') }}
),

counted as (
    select
        bounds.model,
        panes.model_version,
        {{ pane_start('1 day', 'panes.pane_start') }} as day,
        panes.inferences as predictions,
        0::bigint as feedback,
        0::bigint as thumbs_up,
        0::bigint as thumbs_down,
        0::bigint as reports,
        0::bigint as conversions
    from bounds
    inner join {{ ref('request_panes') }} as panes
        on bounds.model = panes.model and bounds.first_day <= panes.pane_start
    where panes.grain = '1 hour' and panes.variant != 'shadow'
    union all
    select
        bounds.model,
        panes.model_version,
        {{ pane_start('1 day', 'panes.pane_start') }} as day,
        0::bigint as predictions,
        panes.feedback,
        case when panes.kind = 'thumbs' then panes.positive else 0::bigint end
            as thumbs_up,
        case when panes.kind = 'thumbs' then panes.negative else 0::bigint end
            as thumbs_down,
        case when panes.kind = 'report' then panes.feedback else 0::bigint end
            as reports,
        case
            when panes.kind in ('purchase', 'conversion') then panes.positive
            else 0::bigint
        end as conversions
    from bounds
    inner join {{ ref('feedback_hours') }} as panes
        on bounds.model = panes.model and bounds.first_day <= panes.pane_start
),

days as (
    select
        model,
        model_version,
        day
        {%- for name in [
            'predictions', 'feedback', 'thumbs_up', 'thumbs_down', 'reports', 'conversions'
        ] %},
        sum({{ name }})::bigint as {{ name }}
        {%- endfor %}
    from counted
    group by model, model_version, day
)

select
    model,
    model_version,
    day,
    predictions,
    feedback,
    feedback::double precision / nullif(predictions, 0) as feedback_rate,
    thumbs_up,
    thumbs_down,
    thumbs_up::double precision / nullif(thumbs_up + thumbs_down, 0) as positive_share,
    thumbs_down::double precision / nullif(predictions, 0) as thumbs_down_rate,
    reports,
    conversions,
    conversions::double precision / nullif(predictions, 0) as conversion_rate
from days
