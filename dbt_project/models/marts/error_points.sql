-- The champion's error in points that can be compared, and the Page-Hinkley test (Page 1954) of a
-- rise in it, point by point: concept_drift tells what the last points mean.
-- An hour of few labels says little, so hours are pooled until min_sample labels are together; a
-- pool of less than half of that does not count. A point counts by its labels.
-- grain: point of a model.  key: (model, hour).
-- lateness: any; a revised label changes the hour in which it was known.
with ordered as (
    select
        *,
        sum(examples) over (
            partition by model
            order by hour
            rows between unbounded preceding and current row
        ) - examples as examples_before,
        row_number() over (
            partition by model
            order by hour
        ) as place
    from {{ ref('hourly_error') }}
),

-- Errors of a regression are in its own unit: those of its first 24 hours of labels make it 1.
scaled as (
    select
        *,
        case
            when error_kind = 'relative absolute error' then
                sum(case when place <= 24 then error_sum end) over of_model
                / nullif(sum(case when place <= 24 then examples end) over of_model, 0)
            else 1
        end as unit
    from ordered
    window of_model as (
        partition by model
        order by hour
        rows between unbounded preceding and unbounded following
    )
),

pools as (
    select
        scaled.*,
        policies.min_sample,
        policies.page_hinkley_delta,
        policies.page_hinkley_threshold,
        policies.drift_alpha,
        floor(scaled.examples_before / greatest(policies.min_sample, 1)) as pool
    from scaled
    inner join {{ ref('model_policies') }} as policies on scaled.model = policies.model
),

points as (
    select
        model,
        error_kind,
        page_hinkley_delta,
        page_hinkley_threshold,
        drift_alpha,
        min(hour) as hour,
        sum(examples)::bigint as examples,
        {{ bounded('sum(error_sum) / nullif(sum(examples) * max(unit), 0)') }} as error,
        {{ bounded('sum(squared_error_sum) / nullif(sum(examples), 0)') }}
        / nullif({{ bounded('max(unit)') }} * {{ bounded('max(unit)') }}, 0)
            as squared_error
    from pools
    group by
        model, error_kind, page_hinkley_delta, page_hinkley_threshold, drift_alpha, pool
    having sum(examples) >= max(min_sample) / 2
),

steps as (
    select
        *,
        (error - lag(error) over by_hour) * (error - lag(error) over by_hour)
        * examples * lag(examples) over by_hour
        / nullif(examples + lag(examples) over by_hour, 0) as squared_step
    from points
    where error is not null
    window by_hour as (
        partition by model
        order by hour
    )
),

-- The variance of an error is that within points, or the one that the steps between them show
-- (von Neumann 1941), if greater: hours may differ by more than chance.
spread as (
    select
        *,
        avg(examples) over of_model as mean_examples,
        greatest(
            sum(examples * squared_error) over of_model
            / nullif(sum(examples) over of_model, 0)
            - sum(examples * error) over of_model
            / nullif(sum(examples) over of_model, 0)
            * (
                sum(examples * error) over of_model
                / nullif(sum(examples) over of_model, 0)
            ),
            avg(squared_step) over of_model,
            0
        ) as variance
    from steps
    window of_model as (
        partition by model
        order by hour
        rows between unbounded preceding and unbounded following
    )
),

weighed as (
    select
        model,
        error_kind,
        hour,
        examples,
        error,
        page_hinkley_threshold,
        drift_alpha,
        examples::double precision / nullif(mean_examples, 0)::double precision
            as weight,
        (variance / nullif(mean_examples, 0))::double precision as variance,
        greatest(
            page_hinkley_delta,
            sqrt((variance / nullif(mean_examples, 0))::double precision) / 2
        ) as delta
    from spread
),

{{ page_hinkley('hinkley', 'weighed', ['model'], 'hour', 'error', 'delta', 'weight') }}

select
    weighed.model,
    weighed.hour,
    weighed.error_kind,
    weighed.examples,
    weighed.error,
    weighed.delta,
    hinkley.statistic,
    greatest(
        weighed.page_hinkley_threshold,
        {{ page_hinkley_threshold(
            'weighed.variance', 'weighed.delta', 'hinkley.n', 'weighed.drift_alpha'
        ) }}
    ) as threshold
from weighed
inner join hinkley on weighed.model = hinkley.model and weighed.hour = hinkley.hour
