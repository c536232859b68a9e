-- How often people report predictions: per 100,000 predictions, and against what is usual.
-- The latest window of each length, up to the end of the minute (of the hour, for a day) that the
-- model's clock stands in. A report counts when it became known, whenever its prediction was given.
-- Of each person the last report of a prediction counts; those without a user_id count each.
-- Usual is the mean of up to 24 windows before (7 for a day: a week); the spike score is the
-- distance from it in standard deviations of a Poisson count, (reports - expected) / sqrt(expected
-- + 1).
-- grain: window of a model.  key: (model, window_name).  lateness: as the panes.
{%- set windows = [
    ('5 minutes', '1 minute', '10 seconds', 300, 24),
    ('1 hour', '1 minute', '10 seconds', 3600, 24),
    ('1 day', '1 hour', '1 hour', 86400, 7)
] %}
with spans as (
    {%- for name, step, grain, seconds, before in windows %}
    {%- if not loop.first %}
    union all
    {%- endif %}
    select
        clock.model,
        greatest(clock.first_event_time, samples.first_hour) as began_at,
        '{{ name }}' as window_name,
        '{{ grain }}' as grain,
        '{{ step }}' as report_grain,
        {{ seconds }} as seconds,
        {{ before }} as windows_used,
        {{ pane_start(step, 'clock.event_clock') }} + interval '{{ step }}'
        - interval '{{ seconds }} seconds' as window_start,
        {{ pane_start(step, 'clock.event_clock') }} + interval '{{ step }}'
            as window_end
    from {{ ref('model_clock') }} as clock
    left join {{ ref('sample_spans') }} as samples on clock.model = samples.model
    {%- endfor %}
),

counted as (
    select
        spans.*,
        coalesce(answered.predictions, 0) as predictions,
        coalesce(reported.reports, 0) as reports,
        coalesce(reported.reports_before, 0) as reports_before,
        least(coalesce(reported.reports, 0), coalesce(answered.predictions, 0))
            as predictions_reported,
        least(
            extract(epoch from spans.window_start - spans.began_at)
            ::double precision / nullif(spans.seconds, 0),
            spans.windows_used
        ) as windows_before
    from spans
    left join {{ lateral() }} (
        select
            span.model,
            span.window_name,
            sum(panes.inferences)::bigint as predictions
        from {{ span([
            'model', 'window_name', 'grain', 'window_start', 'window_end'
        ]) }} as span
        inner join {{ ref('request_panes') }} as panes
            on
                span.model = panes.model
                and span.grain = panes.grain
                and span.window_start <= panes.pane_start
                and span.window_end > panes.pane_start
        where panes.variant != 'shadow'
        group by span.model, span.window_name
    ) as answered
        on spans.model = answered.model and spans.window_name = answered.window_name
    left join {{ lateral() }} (
        select
            span.model,
            span.window_name,
            coalesce(sum(panes.opinions) filter (
                where panes.pane_start >= span.window_start
            ), 0)::bigint as reports,
            coalesce(sum(panes.opinions) filter (
                where panes.pane_start < span.window_start
            ), 0)::bigint as reports_before
        from {{ span([
            'model', 'window_name', 'report_grain', 'seconds', 'windows_used', 'window_start',
            'window_end'
        ]) }} as span
        inner join {{ ref('opinion_panes') }} as panes
            on
                span.model = panes.model
                and span.report_grain = panes.grain
                and span.window_start
                - span.windows_used * span.seconds * interval '1 second'
                <= panes.pane_start
                and span.window_end > panes.pane_start
        where panes.kind = 'report'
        group by span.model, span.window_name
    ) as reported
        on spans.model = reported.model and spans.window_name = reported.window_name
),

expected as (
    select
        *,
        case
            when windows_before >= 1
                then reports_before / nullif(windows_before, 0)
        end as expected,
        100000 * reports::double precision / nullif(predictions, 0) as reports_per_100k,
        100000 * {{ wilson_low('predictions_reported', 'predictions') }}
            as per_100k_low,
        100000 * {{ wilson_high('predictions_reported', 'predictions') }}
            as per_100k_high
    from counted
)

select
    expected.model,
    expected.window_name,
    expected.window_start,
    expected.window_end,
    expected.predictions,
    expected.reports,
    expected.reports_per_100k,
    expected.per_100k_low,
    expected.per_100k_high,
    expected.expected,
    (expected.reports - expected.expected) / nullif(sqrt(expected.expected + 1), 0)
        as spike_score,
    case
        when expected.predictions < policies.min_sample then 'too few predictions'
        when expected.reports_per_100k > policies.max_report_rate then 'high'
        else 'normal'
    end as status
from expected
inner join {{ ref('model_policies') }} as policies on expected.model = policies.model
