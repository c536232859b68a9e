-- The champion's metrics over its time: error rate, accuracy and log loss, one point a day, or one
-- an hour in the champion's first three days. metric_forecast draws its lines through them.
-- Of the 30 days behind the model's clock, by the time of the prediction. Without a champion that
-- serves, all predictions of variant 'champion' count.
-- Silence counts as the default_label (macros/pane/silence.sql).
-- grain: point of a metric.  key: (model, metric, point_start).
-- lateness: any; late labels change the points that they belong to.
{%- set point_start -%}
    case
                when is_daily then {{ pane_start('1 day', 'pane_start') }} else pane_start
            end
{%- endset %}
{%- set columns = [
    'model', 'window_start', 'event_clock', 'is_daily', 'first_version', 'last_version',
    'default_label', 'settled_at', 'positive_label', 'score_of', 'task'
] %}
{%- set of_versions = "spans.first_version <= panes.model_version
            and spans.last_version >= panes.model_version" %}
with served as (
    select
        clock.model,
        champion.model_version,
        clock.event_clock,
        policies.default_label,
        policies.label_window,
        {{ settled_at() }} as settled_at,
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
    group by 1, 2, 3, 4, 5
),

spans as (
    select
        served.*,
        positive.positive_label,
        positive.score_of,
        positive.task,
        {{ pane_start(
            '1 hour', "greatest(served.since, served.event_clock - interval '30 days')"
        ) }} as window_start,
        served.event_clock - served.since >= interval '3 days' as is_daily
    from served
    inner join {{ ref('positive_labels') }} as positive on served.model = positive.model
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
    with hours as (
        select
            span.*,
            '1 hour' as grain,
            span.window_start as span_start,
            coalesce(
                {{ pane_start('1 hour', 'span.settled_at') }},
                span.event_clock + interval '1 second'
            ) as span_end
        from {{ span(columns) }} as span
    ),

    judged as (
        select
            hours.model,
            hours.is_daily,
            hours.positive_label,
            hours.score_of,
            panes.pane_start,
            {{ judged_label('panes', 'hours.task') }} as label,
            {{ judged_prediction('panes', 'hours.task') }} as prediction,
            panes.examples,
            panes.scored,
            panes.log_score_micro,
            panes.log_complement_micro
        from hours
        inner join {{ ref('label_panes') }} as panes
            on
                hours.model = panes.model
                and hours.grain = panes.grain
                and hours.span_start <= panes.pane_start
                and hours.span_end > panes.pane_start
                and {{ of_versions | replace('spans.', 'hours.') }}
        where
            panes.clock = 'inference'
            and panes.variant = 'champion'
            and panes.examples != 0
        union all
        select
            model,
            is_daily,
            positive_label,
            score_of,
            pane_start,
            {{ judged_label('silent', 'silent.task') }} as label,
            {{ judged_prediction('silent', 'silent.task') }} as prediction,
            examples,
            scored,
            log_score_micro,
            log_complement_micro
        from (
            {{ silence(
                'hours',
                ['model', 'is_daily', 'positive_label', 'score_of', 'task'],
                of_versions ~ " and panes.variant = 'champion'"
            ) }}
        ) as silent
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
            hours.model,
            hours.is_daily,
            panes.pane_start,
            panes.inferences,
            panes.errors
        from hours
        inner join {{ ref('request_panes') }} as panes
            on
                hours.model = panes.model
                and hours.grain = panes.grain
                and hours.span_start <= panes.pane_start
                and {{ of_versions | replace('spans.', 'hours.') }}
        where panes.variant = 'champion'
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
