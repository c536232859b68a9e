-- The champion's error hour by hour, in the order in which its labels became known, since its first
-- label: concept_drift looks for a rise. Without a champion that serves all versions count as one.
-- A default_label is known when its label window closes. Explored and held out predictions do not
-- count: more of them is no change of what is right.
-- grain: hour of a model in which labels became known.  key: (model, hour).
-- lateness: any; a revised label changes the hour in which it was known.
with models as (
    select
        clock.model,
        clock.event_clock,
        champion.model_version,
        positive.positive_label,
        positive.score_of,
        positive.task
    from {{ watched_models() }}
    inner join {{ ref('positive_labels') }} as positive on clock.model = positive.model
),

judged as (
    select
        models.model,
        panes.pane_start,
        {{ judged_label('panes', 'models.task') }} as label,
        {{ judged_prediction('panes', 'models.task') }} as prediction,
        models.positive_label,
        models.score_of,
        panes.examples,
        panes.scored,
        panes.score_micro,
        panes.score_squared_micro,
        {{ judged_numbers('panes', 'models.task') }} as measured,
        panes.absolute_error,
        panes.squared_error
    from models
    inner join {{ ref('label_panes') }} as panes
        on
            models.model = panes.model
            and models.event_clock >= panes.pane_start
    where
        panes.clock = 'label'
        and panes.grain = '1 hour'
        and {{ is_own_choice('panes') }}
        and panes.examples != 0
        and panes.model_version = coalesce(models.model_version, panes.model_version)
),

hours as (
    select
        model,
        pane_start,
        coalesce(sum(examples) filter (
            where label is not null and prediction is not null
        ), 0) as classified,
        coalesce(sum(examples) filter (where label != prediction), 0) as wrong,
        coalesce(sum(scored) filter (where {{ is_score_judged() }}), 0) as scored,
        coalesce(sum(
            score_squared_micro
            + case when {{ came_true() }} then 1000000 * scored - 2 * score_micro
                else 0 end
        ) filter (where {{ is_score_judged() }}), 0) as squared_micro,
        sum(measured) as measured,
        coalesce(sum(measured) filter (where label is null or prediction is null), 0)
            as measures,
        sum(absolute_error) as absolute_error,
        sum(squared_error) as squared_error
    from judged
    group by model, pane_start
),

-- One kind of error for the whole history of a model: that of most of its labels.
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
        pane_start as hour,
        error_kind,
        (case error_kind
            when 'misclassification' then classified
            when 'brier' then scored
            else measured
        end)::bigint as examples,
        case error_kind
            when 'misclassification' then wrong::double precision
            when 'brier' then squared_micro::double precision / 1000000
            else absolute_error::double precision
        end as error_sum,
        case error_kind
            when 'misclassification' then wrong::double precision
            when 'brier' then squared_micro::double precision / 1000000
            else squared_error::double precision
        end as squared_error_sum
    from kinds
    where error_kind is not null
)

select
    model,
    hour,
    error_kind,
    examples,
    error_sum,
    squared_error_sum,
    error_sum / nullif(examples, 0) as mean_error
from errors
where examples > 0
