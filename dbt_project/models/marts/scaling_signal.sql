-- Whether a model needs more capacity or less, by its load (request_load).
-- up     p95 latency is at max_latency_ms; or at clear_ratio of it, while requests rise
-- down   p95 latency is below clear_ratio of it, while requests fall
-- Requests rise or fall where the slope is more than two standard errors from zero; latency is
-- judged from min_sample predictions on.
-- grain: model.  key: model.  lateness: as the panes.
with measured as (
    select
        load.*,
        policies.max_latency_ms,
        policies.clear_ratio,
        load.timed_requests >= policies.min_sample as latency_known
    from {{ ref('request_load') }} as load
    inner join {{ ref('model_policies') }} as policies on load.model = policies.model
)

select
    model,
    window_end,
    requests_per_second_1m,
    requests_per_second_5m,
    requests_per_second_60m,
    latency_mean_ms,
    latency_p95_ms,
    concurrency,
    trend_per_minute,
    trend_stderr,
    forecast_requests_per_second,
    case
        when
            latency_known
            and (
                latency_p95_ms >= max_latency_ms
                or (
                    latency_p95_ms >= max_latency_ms * clear_ratio
                    and trend_per_minute > 2 * trend_stderr
                )
            )
            then 'up'
        when
            latency_known
            and latency_p95_ms < max_latency_ms * clear_ratio
            and trend_per_minute < -2 * trend_stderr
            then 'down'
        else 'steady'
    end as signal
from measured
