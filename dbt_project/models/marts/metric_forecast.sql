-- Where the champion's quality is going: a least-squares line through each metric of metric_points,
-- and when that line will cross the threshold.
-- The threshold is max_error_rate, or the baseline made worse by max_metric_drop. A baseline is
-- among the version's metrics (baseline_accuracy, baseline_log_loss), else it is the first point.
-- grain: metric of a model.  key: (model, metric).
-- lateness: any; late labels change the points that they belong to.
{%- set all_points -%}
    partition by model, metric
            order by point_start
            rows between unbounded preceding and unbounded following
{%- endset %}
-- x is the middle of a point, in days from the model's clock.
with points as (
    select
        model,
        metric,
        model_version,
        grain,
        window_start,
        window_end,
        value,
        (
            extract(epoch from point_start - window_end)
            + case when grain = '1 day' then 43200 else 1800 end
        )::double precision / 86400 as x,
        sum(examples) over (
            {{ all_points }}
        )::bigint as examples,
        first_value(value) over (
            {{ all_points }}
        ) as first_value
    from {{ ref('metric_points') }}
),

{{ least_squares('lines', 'points', [
    'model', 'metric', 'model_version', 'grain', 'examples', 'first_value',
    'window_start', 'window_end'
], 'x', 'value') }},

baselines as (
    select
        lines.*,
        policies.max_error_rate,
        policies.max_metric_drop,
        policies.min_sample,
        policies.forecast_horizon,
        case
            {%- for metric in ['accuracy', 'log_loss'] %}
            when lines.metric = '{{ metric }}' then coalesce(
                {{ metric_number('baseline_' ~ metric, 'champion.metrics') }},
                lines.first_value
            )
            {%- endfor %}
        end as baseline,
        case when lines.metric = 'accuracy' then -1 else 1 end as worse
    from lines
    inner join {{ ref('model_policies') }} as policies on lines.model = policies.model
    left join {{ ref('champions') }} as champion
        on
            lines.model = champion.model
            and lines.model_version = champion.model_version
),

thresholds as (
    select
        *,
        case
            when metric = 'error_rate' then max_error_rate
            else {{ bounded('baseline') }} * (1 + worse * max_metric_drop)
        end as threshold
    from baselines
),

crossings as (
    select
        *,
        case
            when slope * worse > 0 and abs(threshold - y_mean) <= abs(slope) * 36525
                then x_mean + (threshold - y_mean) / nullif(slope, 0)
        end as days_ahead
    from thresholds
)

select
    model,
    metric,
    model_version,
    grain,
    n as points,
    examples,
    y_mean - slope * x_mean as value_now,
    slope as slope_per_day,
    slope_stderr,
    r_squared,
    baseline,
    threshold,
    window_end + days_ahead * interval '24 hours' as crosses_at,
    coalesce(
        window_end + days_ahead * interval '24 hours' <= window_end + forecast_horizon
        and examples >= min_sample
        and abs(slope) > 2 * slope_stderr,
        false
    ) as crosses_within_horizon,
    window_start,
    window_end
from crossings
