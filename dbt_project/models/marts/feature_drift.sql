-- How far each feature has moved from what the serving version was trained on: the population
-- stability index, psi = sum((current - reference) * ln(current / reference)) over bins.
-- Numbers: the deciles of the reference, their edges at bucket edges; strings and bools: their
-- categories; a missing value is a bin of its own. Empty bins are smoothed by half a row.
-- grain: feature of a model.  key: (model, feature).
-- lateness: any; the current window ends at the model's clock and never reaches back into the
-- reference, so nothing is compared with itself.
with champion as (
    select
        model,
        model_version,
        {{ metric_time('train_from') }} as train_from,
        {{ metric_time('train_to') }} as train_to
    from {{ ref('model_versions') }}
    where status = 'champion'
),

reference as (
    select
        clock.model,
        champion.model_version,
        policies.psi_alert,
        policies.min_sample,
        policies.drift_window,
        clock.event_clock,
        coalesce(champion.train_from, clock.first_event_time) as reference_start,
        coalesce(champion.train_to, clock.first_event_time + policies.drift_window)
            as reference_end
    from {{ ref('model_clock') }} as clock
    inner join {{ ref('model_policies') }} as policies on clock.model = policies.model
    left join champion on clock.model = champion.model
),

spans as (
    select
        *,
        least(greatest(event_clock - drift_window, reference_end), event_clock)
            as window_start,
        event_clock as window_end
    from reference
),

counted as (
    select
        panes.model,
        panes.feature,
        panes.bucket,
        panes.category,
        coalesce(sum(panes.answers) filter (
            where panes.pane_start <= spans.reference_end
            and panes.pane_start
            >= {{ pane_start('1 minute', 'spans.reference_start') }}
        ), 0) as reference,
        coalesce(sum(panes.answers) filter (
            where panes.pane_start > spans.reference_end
            and panes.pane_start
            >= {{ pane_start('1 minute', 'spans.window_start') }}
        ), 0) as current
    from {{ ref('feature_panes') }} as panes
    inner join spans on panes.model = spans.model
    group by panes.model, panes.feature, panes.bucket, panes.category
),

placed as (
    select
        model,
        feature,
        bucket,
        category,
        reference,
        current,
        coalesce(sum(reference) over (
            partition by model, feature, (bucket is not null)
            order by bucket
            rows between unbounded preceding and 1 preceding
        ), 0) as reference_below,
        sum(reference) over (
            partition by model, feature, (bucket is not null)
            order by bucket
            rows between unbounded preceding and unbounded following
        ) as reference_numbers
    from counted
),

binned as (
    select
        model,
        feature,
        case
            when bucket is not null then
                'decile ' || least(
                    floor(10 * reference_below / nullif(reference_numbers, 0)), 9
                )::text
            when category is not null then 'category ' || category
            else 'missing'
        end as bin,
        bool_or(bucket is not null) as numeric_bin,
        sum(reference) as reference,
        sum(current) as current
    from placed
    group by model, feature, bin
    having sum(reference) + sum(current) > 0
),

shared as (
    select
        model,
        feature,
        numeric_bin,
        reference,
        current,
        sum(reference) over by_feature as reference_rows,
        sum(current) over by_feature as current_rows,
        count(*) over by_feature as bins
    from binned
    window by_feature as (
        partition by model, feature
        order by bin
        rows between unbounded preceding and unbounded following
    )
),

measured as (
    select
        model,
        feature,
        case when bool_or(numeric_bin) then 'numeric' else 'categorical' end as kind,
        max(bins) as bins,
        max(reference_rows)::bigint as reference_rows,
        max(current_rows)::bigint as current_rows,
        sum(
            (
                (current + 0.5) / (current_rows + 0.5 * bins)
                - (reference + 0.5) / (reference_rows + 0.5 * bins)
            )::double precision
            * ln(
                (
                    (current + 0.5) / (current_rows + 0.5 * bins)
                    / ((reference + 0.5) / (reference_rows + 0.5 * bins))
                )::double precision
            )
        ) as psi
    from shared
    group by model, feature
)

select
    measured.model,
    spans.model_version,
    measured.feature,
    measured.kind,
    measured.psi,
    case
        when least(measured.reference_rows, measured.current_rows) < spans.min_sample
            then 'too few rows'
        when measured.psi >= spans.psi_alert then 'drifted'
        when measured.psi >= 0.1 then 'moving'
        else 'stable'
    end as status,
    measured.bins,
    measured.reference_rows,
    measured.current_rows,
    spans.reference_start,
    spans.reference_end,
    spans.window_start,
    spans.window_end
from measured
inner join spans on measured.model = spans.model
