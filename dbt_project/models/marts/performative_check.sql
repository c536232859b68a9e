-- Whether what a model serves changes what is fed back to it (performative prediction: Perdomo,
-- Zrnic, Mendler-Dünner, Hardt 2020): its predictions beside those of the holdback, by the share
-- that has a label and by the share of each label among these. Units are held back at random, so
-- a difference is an effect of serving. Two tests of each share: over all days, and whether it moved
-- at the last promotion in what is served otherwise than in the holdback.
-- The last 30 days behind the model's clock, by the hour of the prediction, without shadow
-- predictions; compared within each day. Rewards are about the answer, and are no label here.
-- grain: model.  key: model.
-- lateness: any; a late label or a revision counts for the prediction that it is about.
{%- set sides = [('', 'not is_base'), ('holdout_', 'is_base')] %}
{%- set scopes = ['', 'since_', 'before_'] %}
with held as (
    select model from {{ ref('request_panes') }}
    where grain = '1 hour' and variant = 'holdout'
    group by model
),

spans as (
    select
        clock.model,
        clock.event_clock,
        coalesce(champion.promoted_at, clock.event_clock + interval '1 hour')
            as promoted_at
    from {{ ref('model_clock') }} as clock
    inner join held on clock.model = held.model
    left join {{ ref('champions') }} as champion on clock.model = champion.model
),

prediction_rows as (
    select
        panes.model,
        panes.variant = 'holdout' as is_base,
        spans.promoted_at <= panes.pane_start as is_since,
        {{ pane_start('1 day', 'panes.pane_start') }} as day,
        panes.inferences
    from spans
    inner join {{ ref('request_panes') }} as panes
        on
            spans.model = panes.model
            and spans.event_clock - interval '720 hours' < panes.pane_start
    where panes.grain = '1 hour' and panes.variant != 'shadow'
),

predicted as (
    select
        model,
        is_base,
        is_since,
        day,
        sum(inferences) as predictions
    from prediction_rows
    group by model, is_base, is_since, day
),

label_rows as (
    select
        panes.model,
        panes.variant = 'holdout' as is_base,
        spans.promoted_at <= panes.pane_start as is_since,
        {{ pane_start('1 day', 'panes.pane_start') }} as day,
        panes.label,
        panes.examples
    from spans
    inner join {{ ref('label_panes') }} as panes
        on
            spans.model = panes.model
            and spans.event_clock - interval '720 hours' < panes.pane_start
    where
        panes.clock = 'inference'
        and panes.grain = '1 hour'
        and panes.variant != 'shadow'
),

labelled as (
    select
        model,
        is_base,
        is_since,
        day,
        label,
        sum(examples) as labels
    from label_rows
    group by model, is_base, is_since, day, label
),

totals as (
    select
        model,
        is_base,
        is_since,
        day,
        sum(labels) as labels,
        sum(case when label is not null then labels else 0 end) as classes
    from labelled
    group by model, is_base, is_since, day
),

named as (
    select
        model,
        label
    from labelled
    where label is not null
    group by model, label
),

cells as (
    select
        predicted.model,
        'feedback' as measure,
        null::text as label,
        predicted.is_base,
        predicted.is_since,
        predicted.day,
        predicted.predictions as trials,
        least(coalesce(totals.labels, 0), predicted.predictions) as successes
    from predicted
    left join totals
        on
            predicted.model = totals.model
            and predicted.is_base = totals.is_base
            and predicted.is_since = totals.is_since
            and predicted.day = totals.day
    union all
    select
        totals.model,
        'label' as measure,
        named.label,
        totals.is_base,
        totals.is_since,
        totals.day,
        totals.classes as trials,
        coalesce(labelled.labels, 0) as successes
    from totals
    inner join named on totals.model = named.model
    left join labelled
        on
            totals.model = labelled.model
            and totals.is_base = labelled.is_base
            and totals.is_since = labelled.is_since
            and totals.day = labelled.day
            and named.label = labelled.label
    where totals.classes > 0
),

strata as (
    select
        model,
        measure,
        label,
        is_since
        {%- for prefix, side in sides %}
        {%- for column in ['trials', 'successes'] %},
        coalesce(sum({{ column }}) filter (where {{ side }}), 0)::double precision
            as {{ prefix }}{{ column }}
        {%- endfor %}
        {%- endfor %}
    from cells
    group by model, measure, label, is_since, day
),

weighted as (
    select
        *,
        trials * holdout_trials / nullif(trials + holdout_trials, 0) as weight,
        successes / nullif(trials, 0) - holdout_successes / nullif(holdout_trials, 0)
            as difference
    from strata
),

sums as (
    select
        model,
        measure,
        label
        {%- for scope, filter in [
            ('', ''), ('since_', ' filter (where is_since)'),
            ('before_', ' filter (where not is_since)')
        ] %},
        nullif(sum(weight){{ filter }}, 0) as {{ scope }}weight,
        sum(weight * difference){{ filter }} as {{ scope }}total
        {%- for prefix, _ in sides %}
        {%- for column in ['trials', 'successes'] %},
        coalesce(sum({{ prefix }}{{ column }}){{ filter }}, 0)
            as {{ scope }}{{ prefix }}{{ column }}
        {%- endfor %},
        sum(weight * weight / nullif({{ prefix }}trials, 0)){{ filter }}
            as {{ scope }}{{ prefix }}sampling
        {%- endfor %}
        {%- endfor %}
    from weighted
    group by model, measure, label
),

unit_rows as (
    select
        spans.model,
        panes.variant = 'holdout' as is_base,
        panes.label,
        panes.unit_group,
        panes.labels,
        panes.known
    from spans
    inner join {{ ref('unit_panes') }} as panes
        on
            spans.model = panes.model
            and spans.event_clock - interval '744 hours' < panes.pane_start
),

{{ label_effects('effects', 'unit_rows', ['model'], 'holdout') }},

facts as (
    select
        sums.*,
        effects.design_effect,
        effects.holdout_design_effect,
        policies.min_sample,
        policies.canary_alpha
    from sums
    inner join {{ ref('model_policies') }} as policies on sums.model = policies.model
    left join effects
        on
            sums.model = effects.model
            and sums.measure = effects.measure
            and coalesce(sums.label, '') = coalesce(effects.label, '')
),

moments as (
    select
        *
        {%- for scope in scopes %}
        {%- set base = scope ~ 'holdout_' %},
        {{ scope }}successes / nullif({{ scope }}trials, 0) as {{ scope }}share,
        {{ base }}successes / nullif({{ base }}trials, 0) as {{ base }}share,
        {{ scope }}total / {{ scope }}weight
        + (0.5 - {{ scope }}successes / nullif({{ scope }}trials, 0))
        / nullif({{ scope }}trials + 1, 0)
        - (0.5 - {{ base }}successes / nullif({{ base }}trials, 0))
        / nullif({{ base }}trials + 1, 0) as {{ scope }}careful,
        {{ share_variance(
            scope ~ 'successes + ' ~ base ~ 'successes',
            scope ~ 'trials + ' ~ base ~ 'trials'
        ) }} as {{ scope }}all_variance,
        {{ share_variance(scope ~ 'successes', scope ~ 'trials') }}
            as {{ scope }}variance,
        {{ share_variance(base ~ 'successes', base ~ 'trials') }} as {{ base }}variance
        {%- endfor %}
    from facts
    {{ fence() }}
),

uncertain as (
    select
        *,
        {%- for scope in scopes %}
        case
            when design_effect is not null and holdout_design_effect is not null
                then (
                    {%- for side in ['', 'holdout_'] %}
                    {{ '+ ' if not loop.first -}}
                    greatest(
                        {{ scope }}all_variance, {{ scope }}{{ side }}variance
                    )
                    * {{ side }}design_effect
                    * {{ scope }}{{ side }}sampling
                    {%- endfor %}
                ) / ({{ scope }}weight * {{ scope }}weight)
        end as {{ scope }}of_difference,
        {%- endfor %}
        least(trials, holdout_trials) >= min_sample as has_sample,
        least(
            since_trials, since_holdout_trials, before_trials, before_holdout_trials
        ) >= min_sample as has_periods
    from moments
    {{ fence() }}
),

tested as (
    select
        *,
        total / weight as difference,
        case
            when has_periods
                then since_total / since_weight - before_total / before_weight
        end as shift,
        case when has_sample then {{ mixture_p_value(
            'careful', 'of_difference', '0.01'
        ) }} end as difference_p_value,
        case when has_periods then {{ mixture_p_value(
            '(since_careful - before_careful)',
            '(since_of_difference + before_of_difference)', '0.01'
        ) }} end as shift_p_value
    from uncertain
    {{ fence() }}
),

tested_by_both as (
    select
        *,
        nullif(
            least(coalesce(difference_p_value, 2), coalesce(shift_p_value, 2)), 2
        ) as least_p_value
    from tested
),

ranked as (
    select
        *,
        count(difference_p_value) over of_model
        + count(shift_p_value) over of_model as tests,
        max(case when measure = 'feedback' then trials end) over of_model
            as predictions,
        max(case when measure = 'feedback' then holdout_trials end) over of_model
            as holdout_predictions,
        max(case when measure = 'feedback' then successes end) over of_model
            as labels,
        max(case when measure = 'feedback' then holdout_successes end) over of_model
            as holdout_labels,
        row_number() over (
            partition by model
            order by coalesce(least_p_value, 2), measure, label
        ) as place
    from tested_by_both
    window
        of_model as (
            partition by model
            order by measure
            rows between unbounded preceding and unbounded following
        )
),

corrected as (
    select
        *,
        case when least_p_value is not null then least(1, tests * least_p_value) end
            as p_value
    from ranked
    where place = 1
),

judged as (
    select
        *,
        case
            when least(labels, holdout_labels) < min_sample then 'too few labels'
            when design_effect is null or holdout_design_effect is null
                then 'too few users'
            when p_value is null then 'too few labels'
            when p_value < canary_alpha then 'feeds back'
            else 'none'
        end as status
    from corrected
)

select
    worth.model,
    -- verdict
    coalesce(judged.status, 'no holdout') as status,
    coalesce(judged.status = 'feeds back' and worth.status = 'worse', false) as halts,
    -- what differs most
    judged.measure,
    judged.label,
    judged.share,
    judged.holdout_share,
    judged.difference,
    judged.difference_p_value,
    judged.since_share - judged.before_share as share_moved,
    judged.since_holdout_share - judged.before_holdout_share as holdout_share_moved,
    judged.shift,
    judged.shift_p_value,
    judged.tests,
    judged.p_value,
    -- what it is of
    coalesce(judged.predictions, worth.predictions)::bigint as predictions,
    coalesce(judged.holdout_predictions, 0)::bigint as holdout_predictions,
    coalesce(judged.labels, worth.labels)::bigint as labels,
    coalesce(judged.holdout_labels, 0)::bigint as holdout_labels,
    judged.design_effect,
    judged.holdout_design_effect
from {{ ref('holdout_comparison') }} as worth
left join judged
    on worth.model = judged.model and worth.holdout_predictions > 0
