-- Where the champion's quality is going: a least-squares line through each metric of metric_points,
-- weighted by examples, and when that line will cross the threshold.
-- The threshold is max_error_rate, or the baseline made worse by max_metric_drop. A baseline is
-- among the version's metrics (baseline_accuracy, baseline_log_loss), else it is the line's start.
-- A line that gets worse by chance, as a t-test of its slope at drift_alpha says, crosses nothing.
-- grain: metric of a model.  key: (model, metric).
-- lateness: any; late labels change the points that they belong to.
{%- set all_points -%}
    partition by model, metric
            order by point_start
            rows between unbounded preceding and unbounded following
{%- endset %}
-- x is the middle of a point, in days from the model's clock.
with placed as (
    select
        *,
        (
            extract(epoch from point_start - window_end)
            + case when grain = '1 day' then 43200 else 1800 end
        )::double precision / 86400 as x
    from {{ ref('metric_points') }}
),

points as (
    select
        model,
        metric,
        model_version,
        grain,
        window_start,
        window_end,
        value,
        x,
        examples as weight,
        sum(examples) over (
            {{ all_points }}
        )::bigint as examples,
        first_value(x) over (
            {{ all_points }}
        ) as first_x
    from placed
),

{{ least_squares(
    'lines', 'points', [
        'model', 'metric', 'model_version', 'grain', 'examples', 'first_x',
        'window_start', 'window_end'
    ], 'x', 'value', weight='weight',
    variance="case when metric != 'log_loss' then y_mean * (1 - y_mean) end"
) }},

baselines as (
    select
        lines.*,
        policies.max_error_rate,
        policies.max_metric_drop,
        policies.min_sample,
        policies.drift_alpha,
        policies.forecast_horizon,
        lines.y_mean - lines.slope * lines.x_mean as value_now,
        {{ student_z('lines.slope / nullif(lines.slope_stderr, 0)', 'lines.n - 2') }}
            as z,
        case
            {%- for metric in ['accuracy', 'log_loss'] %}
            when lines.metric = '{{ metric }}' then coalesce(
                {{ metric_number('baseline_' ~ metric, 'champion.metrics') }},
                lines.y_mean + lines.slope * (lines.first_x - lines.x_mean)
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
        {{ normal_p_value('z') }} as p_value,
        case
            when metric = 'error_rate' then max_error_rate
            else {{ bounded('baseline') }} * (1 + worse * max_metric_drop)
        end as threshold
    from baselines
),

-- Ahead is what the line has not reached yet, within 100 years.
crossings as (
    select
        *,
        slope * worse > 0 and (value_now - threshold) * worse >= 0 as has_crossed,
        case
            when
                slope * worse > 0
                and (value_now - threshold) * worse < 0
                and abs(threshold - value_now) <= abs(slope) * 36525
                then (threshold - value_now) / nullif(slope, 0) * interval '24 hours'
        end as ahead
    from thresholds
)

select
    -- ids
    model,
    metric,
    model_version,
    grain,
    -- the verdict
    case
        when slope is null or threshold is null or examples < min_sample
            then 'too few rows'
        when p_value < drift_alpha and has_crossed then 'crossed'
        when p_value < drift_alpha and ahead <= forecast_horizon then 'crossing'
        else 'stable'
    end as status,
    window_end + ahead as crosses_at,
    threshold,
    baseline,
    -- the line
    value_now,
    slope as slope_per_day,
    slope_stderr,
    p_value,
    r_squared,
    n as points,
    examples,
    window_start,
    window_end
from crossings
