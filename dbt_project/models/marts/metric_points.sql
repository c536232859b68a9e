-- The champion's metrics over its time: error rate, accuracy and log loss, one point a day, or one
-- an hour in the champion's first three days. metric_forecast draws its lines through them.
-- Of the 30 days behind the model's clock, by the time of the prediction. Without a champion that
-- serves, all predictions of variant 'champion' count.
-- grain: point of a metric.  key: (model, metric, point_start).
-- lateness: any; late labels change the points that they belong to.
{%- set point_start -%}
    case
                when is_daily then {{ pane_start('1 day', 'pane_start') }} else pane_start
            end
{%- endset %}
{%- set columns = [
    'model', 'window_start', 'event_clock', 'is_daily', 'first_version', 'last_version',
    'positive_label', 'score_of', 'task'
] %}
with served as (
    select
        clock.model,
        champion.model_version,
        clock.event_clock,
        min(activity.model_version) as first_version,
        max(activity.model_version) as last_version,
        min(activity.first_event_time) as since
    from {{ watched_models() }}
    inner join {{ ref('model_activity') }} as activity
        on
            clock.model = activity.model
            and activity.variant = 'champion'
            and coalesce(champion.model_version, activity.model_version)
            = activity.model_version
    group by 1, 2, 3
),

-- One prediction of another age does not make a version old.
began as (
    select
        served.model,
        min(panes.pane_start) as first_hour
    from served
    inner join {{ ref('request_panes') }} as panes
        on
            served.model = panes.model
            and served.event_clock - interval '720 hours' <= panes.pane_start
            and served.event_clock >= panes.pane_start
            and served.first_version <= panes.model_version
            and served.last_version >= panes.model_version
    where panes.grain = '1 hour' and panes.variant = 'champion'
    group by 1
),

spans as (
    select
        served.*,
        positive.positive_label,
        positive.score_of,
        positive.task,
        {{ pane_start(
            '1 hour',
            "least(served.event_clock, greatest(
                served.since, began.first_hour, served.event_clock - interval '720 hours'
            ))"
        ) }} as window_start,
        served.event_clock - greatest(served.since, began.first_hour)
        >= interval '72 hours' as is_daily
    from served
    inner join {{ ref('positive_labels') }} as positive on served.model = positive.model
    left join began on served.model = began.model
)

-- points, model by model
select
    spans.model,
    points.metric,
    spans.model_version,
    case when spans.is_daily then '1 day' else '1 hour' end as grain,
    points.point_start,
    points.examples,
    points.value,
    spans.window_start,
    spans.event_clock as window_end
from spans
inner join {{ lateral() }} (
    with judged as (
        select
            span.model,
            span.is_daily,
            span.positive_label,
            span.score_of,
            panes.pane_start,
            {{ judged_label('panes', 'span.task') }} as label,
            {{ judged_prediction('panes', 'span.task') }} as prediction,
            panes.examples,
            panes.scored,
            panes.log_score_micro,
            panes.log_complement_micro
        from {{ span(columns) }} as span
        inner join {{ ref('label_panes') }} as panes
            on
                span.model = panes.model
                and span.window_start <= panes.pane_start
                and span.event_clock >= panes.pane_start
                and span.first_version <= panes.model_version
                and span.last_version >= panes.model_version
        where
            panes.clock = 'inference'
            and panes.grain = '1 hour'
            and panes.variant = 'champion'
            and panes.examples != 0
    ),

    sums as (
        select
            model,
            {{ point_start }} as point_start,
            sum(case when prediction is not null then examples end)::bigint
                as predicted,
            sum(case when prediction = label then examples else 0 end)::bigint
                as correct,
            sum(case when {{ is_score_judged() }} then scored end)::bigint as scored,
            -sum(case
                when {{ is_score_judged() }} and {{ came_true() }} then log_score_micro
                when {{ is_score_judged() }} then log_complement_micro
            end)::double precision / 1000000 as log_loss
        from judged
        where label is not null
        group by model, {{ point_start }}
    ),

    answered as (
        select
            span.model,
            span.is_daily,
            panes.pane_start,
            panes.inferences,
            panes.errors
        from {{ span(columns) }} as span
        inner join {{ ref('request_panes') }} as panes
            on
                span.model = panes.model
                and span.window_start <= panes.pane_start
                and span.event_clock >= panes.pane_start
                and span.first_version <= panes.model_version
                and span.last_version >= panes.model_version
        where panes.grain = '1 hour' and panes.variant = 'champion'
    )

    select
        model,
        {{ point_start }} as point_start,
        'error_rate' as metric,
        sum(inferences)::bigint as examples,
        sum(errors)::double precision / nullif(sum(inferences), 0) as value
    from answered
    group by model, {{ point_start }}
    union all
    select
        model,
        point_start,
        unnest(array['accuracy', 'log_loss']) as metric,
        unnest(array[predicted, scored]) as examples,
        unnest(array[
            correct::double precision / nullif(predicted, 0),
            log_loss / nullif(scored, 0)
        ]) as value
    from sums
) as points on spans.model = points.model
where points.value is not null
