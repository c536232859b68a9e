-- Whether what is right has changed: the Page-Hinkley test (Page 1954) of a rise in the champion's
-- error, hour by hour in the order in which labels were known, since its first label. Without a
-- champion that answers all versions count as one.
-- An hour of few labels says little, so hours are pooled until min_sample labels are together; a
-- pool of less than half of that does not count.
-- Silence counts as the default_label (macros/silence.sql), known when the label window closes.
-- grain: model.  key: model.
-- lateness: any; a revised label changes the hour in which it was known.
with champion as (
    select
        model,
        model_version
    from {{ ref('champions') }}
    where is_answering
),

models as (
    select
        clock.model,
        champion.model_version,
        policies.min_sample,
        policies.page_hinkley_delta,
        policies.page_hinkley_threshold,
        positive.positive_label,
        clock.event_clock,
        policies.default_label,
        policies.label_window,
        {{ settled_at() }} as settled_at
    from {{ ref('model_clock') }} as clock
    inner join {{ ref('model_policies') }} as policies on clock.model = policies.model
    inner join {{ ref('positive_labels') }} as positive on clock.model = positive.model
    left join champion on clock.model = champion.model
),

{{ known_spans('silent_spans', 'models') }},

judged as (
    select
        models.model,
        panes.pane_start,
        panes.label,
        panes.prediction,
        models.positive_label,
        panes.examples,
        panes.scored,
        panes.score_micro,
        panes.score_squared_micro,
        panes.measured,
        panes.absolute_error
    from models
    inner join {{ ref('label_panes') }} as panes on models.model = panes.model
    where
        panes.clock = 'label'
        and panes.grain = '1 hour'
        and panes.variant != 'shadow'
        and panes.examples != 0
        and panes.model_version = coalesce(models.model_version, panes.model_version)
        and {{ is_known('panes.pane_start', 'models') }}
    union all
    select
        silent.model,
        {{ known_hour('silent.pane_start', 'silent.label_window') }} as pane_start,
        silent.label,
        silent.prediction,
        silent.positive_label,
        silent.examples,
        silent.scored,
        silent.score_micro,
        silent.score_squared_micro,
        silent.measured,
        silent.absolute_error
    from (
        {{ silence(
            'silent_spans', ['model', 'positive_label', 'label_window'],
            'coalesce(spans.model_version, panes.model_version) = panes.model_version'
        ) }}
    ) as silent
),

hours as (
    select
        model,
        pane_start,
        coalesce(sum(examples) filter (
            where label is not null and prediction is not null
        ), 0) as classified,
        coalesce(sum(examples) filter (where label != prediction), 0) as wrong,
        coalesce(sum(scored) filter (
            where label is not null and positive_label is not null
        ), 0) as scored,
        coalesce(sum(
            score_squared_micro
            + case when label = positive_label then 1000000 * scored - 2 * score_micro
                else 0 end
        ) filter (where label is not null and positive_label is not null), 0)
            as squared_micro,
        sum(measured) as measured,
        coalesce(sum(measured) filter (where label is null or prediction is null), 0)
            as measures,
        sum(absolute_error) as absolute_error
    from judged
    group by model, pane_start
),

totals as (
    select
        model,
        sum(classified) as classified,
        sum(scored) as scored,
        sum(measured) as measured,
        sum(measures) as measures
    from hours
    group by model
),

kinds as (
    select
        model,
        case
            when classified > 0 and classified >= measures then 'misclassification'
            when scored > 0 and scored >= measures then 'brier'
            when measured > 0 then 'relative absolute error'
        end as error_kind
    from totals
),

errors as (
    select
        hours.model,
        hours.pane_start,
        kinds.error_kind,
        case kinds.error_kind
            when 'misclassification' then hours.classified
            when 'brier' then hours.scored
            else hours.measured
        end as examples,
        case kinds.error_kind
            when 'misclassification' then hours.wrong::double precision
            when 'brier' then hours.squared_micro::double precision / 1000000
            else hours.absolute_error::double precision
        end as error
    from hours
    inner join kinds on hours.model = kinds.model
    where kinds.error_kind is not null
),

ordered as (
    select
        *,
        sum(examples) over (
            partition by model
            order by pane_start
            rows between unbounded preceding and current row
        ) - examples as examples_before,
        row_number() over (
            partition by model
            order by pane_start
        ) as place
    from errors
    where examples > 0
),

-- Errors of a regression are in its own unit: those of its first 24 hours of labels make it 1.
units as (
    select
        model,
        max(error_kind) as error_kind,
        count(*) as hours,
        sum(examples)::bigint as examples,
        case
            when max(error_kind) = 'relative absolute error' then
                sum(error) filter (where place <= 24)
                / nullif(sum(examples) filter (where place <= 24), 0)
            else 1
        end as unit
    from ordered
    group by model
),

pools as (
    select
        ordered.*,
        units.unit,
        models.min_sample,
        models.page_hinkley_delta,
        floor(ordered.examples_before / greatest(models.min_sample, 1)) as pool
    from ordered
    inner join units on ordered.model = units.model
    inner join models on ordered.model = models.model
),

points as (
    select
        model,
        min(pane_start) as hour,
        sum(error) / nullif(sum(examples) * max(unit), 0) as error,
        max(page_hinkley_delta) as delta
    from pools
    group by model, pool
    having sum(examples) >= max(min_sample) / 2
),

{{ page_hinkley('hinkley', 'points', ['model'], 'hour', 'error', 'delta') }},

run as (
    select
        hinkley.model,
        hinkley.hour,
        hinkley.x as error,
        hinkley.statistic,
        models.page_hinkley_threshold as threshold,
        hinkley.statistic - min(hinkley.statistic) over (
            partition by hinkley.model
            order by hinkley.hour
            rows between 3 preceding and current row
        ) as rise,
        row_number() over (
            partition by hinkley.model
            order by hinkley.hour desc
        ) as place
    from hinkley
    inner join models on hinkley.model = models.model
),

calm as (
    select
        model,
        max(hour) as until
    from run
    where statistic < threshold
    group by model
),

latest as (
    select
        run.model,
        count(*) as points,
        avg(run.error) as mean_error,
        max(run.error) filter (where run.place = 1) as last_error,
        max(run.statistic) filter (where run.place = 1) as statistic,
        min(run.hour) filter (
            where calm.until is null or run.hour > calm.until
        ) as drifted_since
    from run
    left join calm on run.model = calm.model
    group by run.model
),

onset as (
    select
        run.model,
        max(run.hour) as hour
    from run
    inner join latest on run.model = latest.model
    where run.hour <= latest.drifted_since and run.statistic = 0
    group by run.model
),

-- From its last zero to the alarm: how much, and how much of it at once.
climb as (
    select
        run.model,
        max(run.statistic) filter (where run.hour = latest.drifted_since) as height,
        max(run.rise) as steepest
    from run
    inner join latest on run.model = latest.model
    inner join onset on run.model = onset.model
    where run.hour > onset.hour and run.hour <= latest.drifted_since
    group by run.model
)

select
    -- ids
    models.model,
    models.model_version,
    -- the verdict
    case
        when coalesce(latest.points, 0) < 2 then 'too few rows'
        when latest.drifted_since is not null then 'drifted'
        else 'stable'
    end as status,
    case
        when latest.points < 2 or latest.drifted_since is null then 'none'
        when climb.steepest >= climb.height / 2 then 'sudden'
        else 'gradual'
    end as kind,
    case when latest.points >= 2 then latest.drifted_since end as drifted_since,
    latest.statistic,
    models.page_hinkley_threshold as threshold,
    -- the error
    units.error_kind,
    latest.mean_error,
    latest.last_error,
    coalesce(units.hours, 0) as hours,
    coalesce(latest.points, 0) as points,
    coalesce(units.examples, 0) as examples
from models
left join units on models.model = units.model
left join latest on models.model = latest.model
left join climb on models.model = climb.model
