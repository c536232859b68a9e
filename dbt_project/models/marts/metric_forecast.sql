-- Where the champion's quality is going: a least-squares line through its metrics, and when that
-- line will cross the threshold.
-- One point a day; one an hour in the champion's first three days. Of the 30 days behind the model's
-- clock, by the time of the prediction. Without a champion that serves, all predictions of variant
-- 'champion' count.
-- The threshold is max_error_rate, or the baseline made worse by max_metric_drop. A baseline is among
-- the version's metrics (baseline_accuracy, baseline_log_loss), else it is the first point.
-- Silence counts as the default_label (macros/silence.sql).
-- grain: metric of a model.  key: (model, metric).
-- lateness: any; late labels change the points that they belong to.
{%- set point_start -%}
    case
                    when span.is_daily then {{ pane_start('1 day', 'panes.pane_start') }}
                    else panes.pane_start
                end
{%- endset %}
{%- set said_at = point_start | replace('span.', '') | replace('panes.', '') %}
{#- The span of a model by the hour, in the columns of `silence`. -#}
{%- set silent_span -%}
    (
                    select
                        span.*,
                        '1 hour' as grain,
                        span.window_start as span_start,
                        coalesce(
                            {{ pane_start('1 hour', 'span.settled_at') }},
                            span.event_clock + interval '1 second'
                        ) as span_end
                    from {{ span([
                        'model', 'window_start', 'is_daily', 'first_version', 'last_version',
                        'settled_at', 'event_clock', 'default_label', 'positive_label'
                    ]) }} as span
                )
{%- endset %}
with champion as (
    select
        model,
        model_version
        {%- for metric in ['accuracy', 'log_loss'] %},
        {{ metric_number('baseline_' ~ metric) }} as baseline_{{ metric }}
        {%- endfor %}
    from {{ ref('champions') }}
    where is_serving
),

served as (
    select
        activity.model,
        champion.model_version,
        champion.baseline_accuracy,
        champion.baseline_log_loss,
        min(activity.model_version) as first_version,
        max(activity.model_version) as last_version,
        min(activity.first_event_time) as since
    from {{ ref('model_activity') }} as activity
    left join champion on activity.model = champion.model
    where
        activity.variant = 'champion'
        and activity.model_version
        = coalesce(champion.model_version, activity.model_version)
    group by
        activity.model,
        champion.model_version,
        champion.baseline_accuracy,
        champion.baseline_log_loss
),

spans as (
    select
        served.*,
        clock.event_clock,
        positive.positive_label,
        {{ pane_start(
            '1 hour', "greatest(served.since, clock.event_clock - interval '30 days')"
        ) }} as window_start,
        clock.event_clock - served.since >= interval '3 days' as is_daily,
        policies.max_error_rate,
        policies.max_metric_drop,
        policies.min_sample,
        policies.forecast_horizon,
        policies.default_label,
        {{ settled_at() }} as settled_at
    from served
    inner join {{ ref('model_clock') }} as clock on served.model = clock.model
    inner join {{ ref('model_policies') }} as policies on served.model = policies.model
    inner join {{ ref('positive_labels') }} as positive on served.model = positive.model
),

measured as (
    select
        spans.*,
        fitted.metric,
        fitted.n,
        fitted.x_mean,
        fitted.y_mean,
        fitted.slope,
        fitted.slope_stderr,
        fitted.r_squared,
        fitted.examples,
        fitted.first_value
    from spans
    inner join {{ lateral() }} (
        with answered as (
            select
                span.model,
                span.event_clock,
                span.is_daily,
                {{ point_start }} as point_start,
                sum(panes.inferences)::bigint as inferences,
                sum(panes.errors)::bigint as errors
            from {{ span([
                'model', 'window_start', 'event_clock', 'is_daily', 'first_version',
                'last_version'
            ]) }} as span
            inner join {{ ref('request_panes') }} as panes
                on
                    span.model = panes.model
                    and span.window_start <= panes.pane_start
                    and span.first_version <= panes.model_version
                    and span.last_version >= panes.model_version
            where panes.grain = '1 hour' and panes.variant = 'champion'
            group by span.model, span.event_clock, span.is_daily, {{ point_start }}
        ),

        said as (
            select
                span.model,
                span.event_clock,
                span.is_daily,
                span.positive_label,
                panes.pane_start,
                panes.label,
                panes.prediction,
                panes.examples,
                panes.scored,
                panes.log_score_micro,
                panes.log_complement_micro
            from {{ span([
                'model', 'window_start', 'event_clock', 'is_daily', 'first_version',
                'last_version', 'settled_at', 'positive_label'
            ]) }} as span
            inner join {{ ref('label_panes') }} as panes
                on
                    span.model = panes.model
                    and span.window_start <= panes.pane_start
                    and span.first_version <= panes.model_version
                    and span.last_version >= panes.model_version
            where
                panes.clock = 'inference'
                and panes.grain = '1 hour'
                and panes.variant = 'champion'
                and panes.label is not null
                and panes.examples != 0
                and (
                    span.settled_at is null
                    or panes.pane_start < {{ pane_start('1 hour', 'span.settled_at') }}
                )
            union all
            select
                silent.model,
                silent.event_clock,
                silent.is_daily,
                silent.positive_label,
                silent.pane_start,
                silent.label,
                silent.prediction,
                silent.examples,
                silent.scored,
                silent.log_score_micro,
                silent.log_complement_micro
            from (
                {{ silence(
                    silent_span, ['model', 'event_clock', 'is_daily', 'positive_label'],
                    "spans.first_version <= panes.model_version "
                    ~ "and spans.last_version >= panes.model_version "
                    ~ "and panes.variant = 'champion'"
                ) }}
            ) as silent
            where silent.label is not null
        ),

        judged as (
            select
                model,
                event_clock,
                is_daily,
                {{ said_at }} as point_start,
                sum(case when prediction is not null then examples end)::bigint
                    as predicted,
                sum(case when prediction = label then examples else 0 end)::bigint
                    as correct,
                sum(case when positive_label is not null then scored end)::bigint
                    as scored,
                -sum(case
                    when label = positive_label then log_score_micro
                    when label != positive_label then log_complement_micro
                end)::double precision / 1000000 as log_loss
            from said
            group by model, event_clock, is_daily, {{ said_at }}
        ),

        metric_values as (
            select
                model,
                event_clock,
                is_daily,
                point_start,
                'error_rate' as metric,
                inferences as examples,
                errors::double precision / nullif(inferences, 0) as value
            from answered
            union all
            select
                model,
                event_clock,
                is_daily,
                point_start,
                unnest(array['accuracy', 'log_loss']) as metric,
                unnest(array[predicted, scored]) as examples,
                unnest(array[
                    correct::double precision / nullif(predicted, 0),
                    log_loss / nullif(scored, 0)
                ]) as value
            from judged
        ),

        -- x is the middle of a point, in days from the model's clock.
        points as (
            select
                model,
                metric,
                value,
                (
                    extract(epoch from point_start - event_clock)
                    + case when is_daily then 43200 else 1800 end
                )::double precision / 86400 as x,
                sum(examples) over (
                    partition by model, metric
                    order by point_start
                    rows between unbounded preceding and unbounded following
                )::bigint as examples,
                first_value(value) over (
                    partition by model, metric
                    order by point_start
                    rows between unbounded preceding and unbounded following
                ) as first_value
            from metric_values
            where value is not null
        ),

        {{ least_squares(
            'line', 'points', ['model', 'metric', 'examples', 'first_value'], 'x', 'value'
        ) }}

        select * from line
    ) as fitted on spans.model = fitted.model
),

baselines as (
    select
        *,
        case
            when metric = 'accuracy' then coalesce(baseline_accuracy, first_value)
            when metric = 'log_loss' then coalesce(baseline_log_loss, first_value)
        end as baseline,
        case when metric = 'accuracy' then -1 else 1 end as worse
    from measured
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
    case when is_daily then '1 day' else '1 hour' end as grain,
    n as points,
    examples,
    y_mean - slope * x_mean as value_now,
    slope as slope_per_day,
    slope_stderr,
    r_squared,
    baseline,
    threshold,
    event_clock + days_ahead * interval '1 day' as crosses_at,
    coalesce(
        event_clock + days_ahead * interval '1 day' <= event_clock + forecast_horizon
        and examples >= min_sample
        and abs(slope) > 2 * slope_stderr,
        false
    ) as crosses_within_horizon,
    window_start,
    event_clock as window_end
from crossings
