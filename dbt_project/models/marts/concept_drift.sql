-- Whether what is right has changed: the Page-Hinkley test (Page 1954) of a rise in the champion's
-- error, hour by hour in the order in which labels were known, since its first label. Without a
-- champion that predictions all versions count as one.
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
    where is_serving
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

kinds as (
    select
        *,
        case
            when
                sum(classified) over of_model > 0
                and sum(classified) over of_model >= sum(measures) over of_model
                then 'misclassification'
            when
                sum(scored) over of_model > 0
                and sum(scored) over of_model >= sum(measures) over of_model
                then 'brier'
            when sum(measured) over of_model > 0 then 'relative absolute error'
        end as error_kind
    from hours
    window of_model as (
        partition by model
        order by pane_start
        rows between unbounded preceding and unbounded following
    )
),

errors as (
    select
        model,
        pane_start,
        error_kind,
        case error_kind
            when 'misclassification' then classified
            when 'brier' then scored
            else measured
        end as examples,
        case error_kind
            when 'misclassification' then wrong::double precision
            when 'brier' then squared_micro::double precision / 1000000
            else absolute_error::double precision
        end as error
    from kinds
    where error_kind is not null
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
scaled as (
    select
        *,
        case
            when error_kind = 'relative absolute error' then
                sum(case when place <= 24 then error end) over of_model
                / nullif(sum(case when place <= 24 then examples end) over of_model, 0)
            else 1
        end as unit
    from ordered
    window of_model as (
        partition by model
        order by pane_start
        rows between unbounded preceding and unbounded following
    )
),

totals as (
    select
        model,
        max(error_kind) as error_kind,
        count(*) as hours,
        sum(examples)::bigint as examples
    from ordered
    group by model
),

pools as (
    select
        scaled.*,
        models.min_sample,
        models.page_hinkley_delta,
        models.page_hinkley_threshold,
        floor(scaled.examples_before / greatest(models.min_sample, 1)) as pool
    from scaled
    inner join models on scaled.model = models.model
),

points as (
    select
        model,
        page_hinkley_threshold as threshold,
        min(pane_start) as hour,
        sum(error) / nullif(sum(examples) * max(unit), 0) as error,
        max(page_hinkley_delta) as delta
    from pools
    group by model, page_hinkley_threshold, pool
    having sum(examples) >= max(min_sample) / 2
),

{{ page_hinkley(
    'hinkley', 'points', ['model', 'threshold'], 'hour', 'error', 'delta'
) }},

run as (
    select
        model,
        hour,
        x as error,
        statistic,
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
    from hinkley
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
    end as kind,
    case when latest.points >= 2 then latest.drifted_since end as drifted_since,
    latest.statistic,
    models.page_hinkley_threshold as threshold,
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
