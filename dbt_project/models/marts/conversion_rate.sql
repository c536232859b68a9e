-- Whether as many predictions as usual end in a purchase or conversion: the last 24 hours against
-- the 30 days before.
-- In whole hours, the last of them that of the model's clock. A conversion counts when it became
-- known, whenever its prediction was given.
-- grain: model with a conversion in that time.  key: model.
-- lateness: any; a conversion counts when it became known.
with bounds as (
    select
        model,
        {{ pane_start('1 hour', 'event_clock') }} + interval '1 hour' as window_end,
        {{ pane_start('1 hour', 'event_clock') }} - interval '23 hours' as window_start,
        {{ pane_start('1 hour', 'event_clock') }} - interval '743 hours' as first_hour
    from {{ ref('model_clock') }}
),

answered as (
    select
        bounds.model,
        coalesce(sum(panes.inferences) filter (
            where panes.pane_start >= bounds.window_start
        ), 0)::bigint as predictions,
        coalesce(sum(panes.inferences) filter (
            where panes.pane_start < bounds.window_start
        ), 0)::bigint as predictions_before
    from bounds
    inner join {{ ref('request_panes') }} as panes
        on bounds.model = panes.model and bounds.first_hour <= panes.pane_start
    where panes.grain = '1 hour' and panes.variant != 'shadow'
    group by bounds.model
),

converted as (
    select
        bounds.model,
        coalesce(sum(panes.positive) filter (
            where panes.pane_start >= bounds.window_start
        ), 0)::bigint as conversions,
        coalesce(sum(panes.positive) filter (
            where panes.pane_start < bounds.window_start
        ), 0)::bigint as conversions_before
    from bounds
    inner join {{ ref('feedback_hours') }} as panes
        on bounds.model = panes.model and bounds.first_hour <= panes.pane_start
    where panes.kind in ('purchase', 'conversion')
    group by bounds.model
),

compared as (
    select
        bounds.model,
        bounds.window_start,
        bounds.window_end,
        coalesce(answered.predictions, 0) as predictions,
        converted.conversions,
        coalesce(answered.predictions_before, 0) as predictions_before,
        converted.conversions_before
    from bounds
    inner join converted on bounds.model = converted.model
    left join answered on bounds.model = answered.model
),

tested as (
    select
        *,
        conversions::double precision / nullif(predictions, 0) as conversion_rate,
        conversions_before::double precision / nullif(predictions_before, 0)
            as baseline_rate,
        {{ two_proportion_z(
            'least(conversions, predictions)', 'predictions',
            'least(conversions_before, predictions_before)', 'predictions_before'
        ) }} as z_score
    from compared
)

select
    tested.model,
    tested.window_start,
    tested.window_end,
    tested.predictions,
    tested.conversions,
    tested.conversion_rate,
    tested.predictions_before,
    tested.conversions_before,
    tested.baseline_rate,
    tested.conversion_rate / nullif(tested.baseline_rate, 0) - 1 as change,
    tested.z_score,
    case
        when
            tested.predictions < policies.min_sample
            or tested.predictions_before < policies.min_sample
            then 'too few predictions'
        when tested.z_score <= -4 then 'low'
        when tested.z_score >= 4 then 'high'
        else 'usual'
    end as status
from tested
inner join {{ ref('model_policies') }} as policies on tested.model = policies.model
