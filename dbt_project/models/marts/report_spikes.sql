-- Where people report more than usual: reports of the last 24 hours by topic, segment, endpoint and
-- version, against the seven days before.
-- In whole hours, the last of them that of the model's clock. A report counts when it became known. The
-- spike score is the distance from the usual number in standard deviations of a Poisson count,
-- (reports - expected) / sqrt(expected + 1), as in report_rate.
-- grain: slice with a report in these eight days.  key: (model, dimension, slice).
-- lateness: any; a report counts when it became known.
with bounds as (
    select
        model,
        first_event_time,
        {{ pane_start('1 hour', 'event_clock') }} + interval '1 hour' as window_end,
        {{ pane_start('1 hour', 'event_clock') }} - interval '23 hours' as window_start,
        {{ pane_start('1 hour', 'event_clock') }} - interval '191 hours' as first_hour
    from {{ ref('model_clock') }}
),

heard as (
    select
        bounds.model,
        coalesce(panes.topic, '') as topic,
        coalesce(panes.segment, '') as segment,
        coalesce(panes.endpoint, '') as endpoint,
        panes.model_version,
        case when panes.pane_start >= bounds.window_start then panes.feedback else 0 end
            as reports,
        case when panes.pane_start < bounds.window_start then panes.feedback else 0 end
            as reports_before
    from bounds
    inner join {{ ref('feedback_hours') }} as panes
        on bounds.model = panes.model and bounds.first_hour <= panes.pane_start
    where panes.kind = 'report'
),

reported as (
    {%- for dimension, slice in [
        ('topic', 'topic'), ('segment', 'segment'), ('endpoint', 'endpoint'),
        ('version', 'model_version')
    ] %}
    {%- if not loop.first %}
    union all
    {%- endif %}
    select
        model,
        '{{ dimension }}' as dimension,
        {{ slice }} as slice,
        sum(reports)::bigint as reports,
        sum(reports_before)::bigint as reports_before
    from heard
    group by model, {{ slice }}
    {%- endfor %}
),

answered as (
    select
        bounds.model,
        coalesce(panes.endpoint, '') as endpoint,
        panes.model_version,
        panes.inferences
    from bounds
    inner join {{ ref('latency_panes') }} as panes
        on bounds.model = panes.model and bounds.window_start <= panes.pane_start
    where panes.grain = '1 hour' and panes.variant != 'shadow'
),

predicted as (
    select
        bounds.model,
        'segment' as dimension,
        coalesce(panes.segment, '') as slice,
        sum(panes.inferences)::bigint as predictions
    from bounds
    inner join {{ ref('inference_panes') }} as panes
        on bounds.model = panes.model and bounds.window_start <= panes.pane_start
    where panes.grain = '1 hour' and panes.variant != 'shadow'
    group by bounds.model, coalesce(panes.segment, '')
    {%- for dimension, slice in [
        ('endpoint', 'endpoint'), ('version', 'model_version')
    ] %}
    union all
    select
        model,
        '{{ dimension }}' as dimension,
        {{ slice }} as slice,
        sum(inferences)::bigint as predictions
    from answered
    group by model, {{ slice }}
    {%- endfor %}
),

totals as (
    select
        model,
        sum(inferences)::bigint as predictions
    from answered
    group by model
),

expected as (
    select
        reported.model,
        reported.dimension,
        reported.slice,
        bounds.window_start,
        bounds.window_end,
        case
            when reported.dimension = 'topic' then coalesce(totals.predictions, 0)
            else coalesce(predicted.predictions, 0)
        end as predictions,
        reported.reports,
        case
            when bounds.window_start - interval '24 hours' >= bounds.first_event_time
                then reported.reports_before / nullif(least(7, extract(
                    epoch from bounds.window_start - bounds.first_event_time
                )::double precision / 86400), 0)
        end as expected
    from reported
    inner join bounds on reported.model = bounds.model
    left join totals on reported.model = totals.model
    left join predicted
        on
            reported.model = predicted.model
            and reported.dimension = predicted.dimension
            and reported.slice = predicted.slice
)

select
    model,
    dimension,
    slice,
    window_start,
    window_end,
    predictions,
    reports,
    100000 * reports::double precision / nullif(predictions, 0) as reports_per_100k,
    expected,
    (reports - expected) / nullif(sqrt(expected + 1), 0) as spike_score,
    case
        when expected is null then 'too young'
        when (reports - expected) / nullif(sqrt(expected + 1), 0) >= 5 then 'spike'
        else 'usual'
    end as status
from expected
