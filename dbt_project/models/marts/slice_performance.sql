-- How good a model was in every segment and at every endpoint, day by day, and whether it got worse
-- there: each day splits the days of its slice in two, and drop_z compares the accuracy before it
-- with that since. The day with the largest drop_z is when a slice got worse
-- (sql/queries/15_what_got_worse_and_since_when.sql).
-- The last 30 days behind the model's clock, by the time of the prediction, without shadow
-- predictions.
-- grain: day of a slice with predictions or labels.  key: (model, dimension, slice, day).
-- lateness: any; a late label or a revision changes the day of its prediction.
with bounds as (
    select
        model,
        {{ pane_start('1 day', 'event_clock') }} - interval '696 hours' as first_day
    from {{ ref('model_clock') }}
),

counted as (
    {%- for dimension, pane in [
        ('segment', 'inference_panes'), ('endpoint', 'latency_panes')
    ] %}
    select
        bounds.model,
        '{{ dimension }}' as dimension,
        coalesce(panes.{{ dimension }}, '') as slice,
        {{ pane_start('1 day', 'panes.pane_start') }} as day,
        panes.inferences as predictions,
        panes.errors,
        0::bigint as labels,
        0::bigint as classified,
        0::bigint as correct,
        0::numeric as reward
    from bounds
    inner join {{ ref(pane) }} as panes
        on bounds.model = panes.model and bounds.first_day <= panes.pane_start
    where panes.grain = '1 hour' and panes.variant != 'shadow'
    union all
    {%- endfor %}
    select
        bounds.model,
        'segment' as dimension,
        coalesce(panes.segment, '') as slice,
        {{ pane_start('1 day', 'panes.pane_start') }} as day,
        0::bigint as predictions,
        0::bigint as errors,
        panes.examples as labels,
        case
            when panes.label is not null and panes.prediction is not null
                then panes.examples
            else 0::bigint
        end as classified,
        case when panes.label = panes.prediction then panes.examples else 0::bigint end
            as correct,
        panes.reward
    from bounds
    inner join {{ ref('label_panes') }} as panes
        on bounds.model = panes.model and bounds.first_day <= panes.pane_start
    where
        panes.clock = 'inference'
        and panes.grain = '1 hour'
        and panes.variant != 'shadow'
        and panes.examples != 0
    union all
    select
        bounds.model,
        'endpoint' as dimension,
        coalesce(panes.endpoint, '') as slice,
        panes.pane_start as day,
        0::bigint as predictions,
        0::bigint as errors,
        panes.labels,
        panes.classified,
        panes.correct,
        panes.reward
    from bounds
    inner join {{ ref('endpoint_panes') }} as panes
        on bounds.model = panes.model and bounds.first_day <= panes.pane_start
    where panes.labels != 0
),

days as (
    select
        model,
        dimension,
        slice,
        day,
        sum(predictions)::bigint as predictions,
        sum(errors)::bigint as errors,
        sum(labels)::bigint as labels,
        sum(classified)::bigint as classified,
        sum(correct)::bigint as correct,
        sum(reward) as reward
    from counted
    group by model, dimension, slice, day
),

split as (
    select
        *,
        coalesce((sum(classified) over earlier)::bigint, 0) as classified_before,
        coalesce((sum(correct) over earlier)::bigint, 0) as correct_before,
        (sum(classified) over onwards)::bigint as classified_since,
        (sum(correct) over onwards)::bigint as correct_since
    from days
    window
        earlier as (
            partition by model, dimension, slice
            order by day
            rows between unbounded preceding and 1 preceding
        ),
        onwards as (
            partition by model, dimension, slice
            order by day
            rows between current row and unbounded following
        )
)

select
    model,
    dimension,
    slice,
    day,
    -- the day
    predictions,
    errors,
    labels,
    correct::double precision / nullif(classified, 0) as accuracy,
    {{ as_double('reward') }} / nullif(labels, 0) as mean_reward,
    -- the days before it against those since
    classified_before as labels_before,
    classified_since as labels_since,
    correct_before::double precision / nullif(classified_before, 0) as accuracy_before,
    correct_since::double precision / nullif(classified_since, 0) as accuracy_since,
    {{ two_proportion_z(
        'correct_before', 'classified_before', 'correct_since', 'classified_since'
    ) }} as drop_z
from split
