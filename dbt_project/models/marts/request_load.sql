-- How many requests a model gets, how long they take, and where their number is going.
-- Windows end at the start of the 10-second pane that the model's clock is in: it is not full yet.
-- Shadow predictions count, as they are work, too. Requests in progress follow from Little's law
-- (1961), rate x mean latency; the trend is a least-squares line through the minutes of an hour.
-- scaling_signal judges it.
-- grain: model.  key: model.  lateness: as the panes.
with spans as (
    select
        clock.model,
        greatest(clock.first_event_time, samples.first_hour) as began_at,
        {{ pane_start('10 seconds', 'clock.event_clock') }} as window_end
    from {{ ref('model_clock') }} as clock
    left join {{ ref('sample_spans') }} as samples on clock.model = samples.model
),

measured as (
    select
        spans.model,
        spans.window_end,
        coalesce(load.requests_1m, 0)::double precision / 60 as requests_per_second_1m,
        coalesce(load.requests_5m, 0)::double precision / 300 as requests_per_second_5m,
        coalesce(load.requests_60m, 0)::double precision / 3600
            as requests_per_second_60m,
        load.slope as trend_per_minute,
        load.slope_stderr as trend_stderr,
        load.y_mean + load.slope * (10 - load.x_mean) as forecast,
        latency.mean_ms as latency_mean_ms,
        latency.p95_ms as latency_p95_ms,
        coalesce(latency.timed, 0)::bigint as timed_requests
    from spans
    left join {{ lateral() }} (
        with numbered as (
            select
                model,
                began_at,
                window_end,
                generate_series(1, 360) as slot
            from {{ span(['model', 'began_at', 'window_end']) }} as span
        ),

        slots as (
            select
                model,
                '10 seconds' as grain,
                window_end - slot * interval '10 seconds' as pane_start,
                (slot - 1) / 6 as minutes_ago,
                window_end - ((slot - 1) / 6 + 1) * interval '1 minute'
                >= began_at as has_begun
            from numbered
        ),

        -- A minute without a request is a point of the line, but none before the first event.
        minutes as (
            select
                slots.model,
                -slots.minutes_ago as minute,
                coalesce(sum(panes.inferences), 0) as requests,
                case
                    when bool_and(slots.has_begun)
                        then coalesce(sum(panes.inferences), 0)::double precision / 60
                end as per_second
            from slots
            left join {{ ref('request_panes') }} as panes
                on
                    slots.model = panes.model
                    and slots.grain = panes.grain
                    and slots.pane_start = panes.pane_start
            group by slots.model, slots.minutes_ago
        ),

        {{ least_squares('trend', 'minutes', ['model'], 'minute', 'per_second') }},

        totals as (
            select
                model,
                sum(case when minute = 0 then requests end) as requests_1m,
                sum(case when minute > -5 then requests end) as requests_5m,
                sum(requests) as requests_60m
            from minutes
            group by model
        )

        select
            totals.*,
            trend.x_mean,
            trend.y_mean,
            trend.slope,
            trend.slope_stderr
        from totals
        left join trend on totals.model = trend.model
    ) as load on spans.model = load.model
    left join {{ lateral() }} (
        with timed as (
            select
                span.model,
                panes.block,
                panes.inferences,
                panes.latency_micro,
                panes.counts
            from {{ span(['model', 'window_end']) }} as span
            inner join {{ ref('latency_panes') }} as panes
                on
                    span.model = panes.model
                    and span.window_end - interval '5 minutes' <= panes.pane_start
                    and span.window_end > panes.pane_start
            where panes.grain = '10 seconds' and panes.block is not null
        ),

        buckets as (
            {{ opened_blocks('timed', ['model'], sketch_block()) }}
        ),

        {{ quantiles('tail', 'buckets', ['model'], {'p95_ms': 0.95}) }},

        totals as (
            select
                model,
                sum(inferences) as timed,
                sum(latency_micro)::double precision / 1000000
                / nullif(sum(inferences), 0) as mean_ms
            from timed
            group by model
        )

        select
            totals.*,
            tail.p95_ms
        from totals
        left join tail on totals.model = tail.model
    ) as latency on spans.model = latency.model
)

select
    model,
    window_end,
    requests_per_second_1m,
    requests_per_second_5m,
    requests_per_second_60m,
    latency_mean_ms,
    latency_p95_ms,
    timed_requests,
    requests_per_second_5m * latency_mean_ms / 1000 as concurrency,
    trend_per_minute,
    trend_stderr,
    case when forecast < 0 then 0 else forecast end as forecast_requests_per_second
from measured
