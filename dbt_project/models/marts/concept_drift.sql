-- Whether what is right has changed: the Page-Hinkley test (Page 1954) of a rise in the champion's
-- error, over error_points. Without a change its threshold is reached in a share of drift_alpha of
-- all models, however long they run.
-- grain: model.  key: model.
-- lateness: any; a revised label changes the hour in which it was known.
with models as (
    select
        clock.model,
        champion.model_version,
        tasks.task
    from {{ watched_models() }}
    inner join {{ ref('model_tasks') }} as tasks on clock.model = tasks.model
),

totals as (
    select
        model,
        max(error_kind) as error_kind,
        count(*) as hours,
        sum(examples)::bigint as examples
    from {{ ref('hourly_error') }}
    group by model
),

run as (
    select
        model,
        hour,
        error,
        statistic,
        threshold,
        statistic - min(statistic) over (
            partition by model
            order by hour
            rows between 3 preceding and current row
        ) as rise,
        row_number() over (
            partition by model
            order by hour desc
        ) as place,
        max(case when statistic < threshold then hour end) over (
            partition by model
            order by hour
            rows between unbounded preceding and unbounded following
        ) as calm_until
    from {{ ref('error_points') }}
),

alarms as (
    select
        *,
        min(case when calm_until is null or hour > calm_until then hour end) over (
            partition by model
            order by hour
            rows between unbounded preceding and unbounded following
        ) as drifted_since
    from run
),

-- A climb is from the last zero to the alarm: how much, and how much of it at once.
climbs as (
    select
        *,
        max(case when hour <= drifted_since and statistic = 0 then hour end) over (
            partition by model
            order by hour
            rows between unbounded preceding and unbounded following
        ) as onset
    from alarms
),

latest as (
    select
        model,
        count(*) as points,
        avg(error) as mean_error,
        max(error) filter (where place = 1) as last_error,
        max(statistic) filter (where place = 1) as statistic,
        max(threshold) filter (where place = 1) as threshold,
        max(drifted_since) as drifted_since,
        max(statistic) filter (where hour > onset and hour = drifted_since) as height,
        max(rise) filter (where hour > onset and hour <= drifted_since) as steepest
    from climbs
    group by model
)

select
    -- ids
    models.model,
    models.model_version,
    models.task,
    -- the verdict
    case
        when coalesce(latest.points, 0) < 2 then 'too few rows'
        when latest.drifted_since is not null then 'drifted'
        else 'stable'
    end as status,
    case
        when latest.points < 2 or latest.drifted_since is null then 'none'
        when latest.steepest >= latest.height / 2 then 'sudden'
        else 'gradual'
    end as onset,
    case when latest.points >= 2 then latest.drifted_since end as drifted_since,
    latest.statistic,
    latest.threshold,
    -- the error
    totals.error_kind,
    latest.mean_error,
    latest.last_error,
    coalesce(totals.hours, 0) as hours,
    coalesce(latest.points, 0) as points,
    coalesce(totals.examples, 0) as examples
from models
left join totals on models.model = totals.model
left join latest on models.model = latest.model
