-- Who is in each experiment of a model. A canary is one, against the champion since it began; the
-- holdback is another: what the loop serves against what it leaves alone, in the last 30 days
-- behind the model's clock. Every prediction was answered, and so is an exposure; whether a person
-- saw the answer is not known here, nor how many people there are: of units the groups are counted
-- (unit_panes).
-- grain: arm of an experiment.  key: (model, experiment, arm).
-- lateness: any; a late prediction counts.
with arms as (
    select
        traffic.model,
        'canary ' || traffic.model_version as experiment,
        traffic.began_at,
        {{ pane_start('1 day', 'traffic.began_at') }} - interval '1 second'
            as counted_after,
        unnest(array['treatment', 'control']) as arm,
        unnest(array['canary', 'champion']) as variant,
        unnest(array[traffic.model_version, traffic.champion_version])
            as model_version,
        unnest(array[traffic.predictions, traffic.champion_predictions])
            as exposures,
        unnest(array[
            coalesce(rewards.labels, 0), coalesce(rewards.champion_labels, 0)
        ]) as labels,
        unnest(array[shares.planned_share, 1 - shares.planned_share])
            as planned_share,
        unnest(array[shares.share, 1 - shares.share]) as share,
        shares.share_p_value
    from {{ ref('canary_traffic') }} as traffic
    left join {{ ref('canary_rewards') }} as rewards
        on
            traffic.model = rewards.model
            and traffic.model_version = rewards.model_version
    left join {{ ref('canary_share') }} as shares
        on
            traffic.model = shares.model
            and traffic.model_version = shares.model_version
    union all
    select
        worth.model,
        'holdback' as experiment,
        null::timestamptz as began_at,
        clock.event_clock - interval '744 hours' as counted_after,
        unnest(array['treatment', 'control']) as arm,
        unnest(array['served', 'holdout']) as variant,
        null::text as model_version,
        unnest(array[worth.predictions, worth.holdout_predictions]) as exposures,
        unnest(array[worth.labels, worth.holdout_labels]) as labels,
        null::double precision as planned_share,
        unnest(array[
            worth.predictions::double precision
            / nullif(worth.predictions + worth.holdout_predictions, 0),
            worth.holdout_predictions::double precision
            / nullif(worth.predictions + worth.holdout_predictions, 0)
        ]) as share,
        null::double precision as share_p_value
    from {{ ref('holdout_comparison') }} as worth
    inner join {{ ref('model_clock') }} as clock on worth.model = clock.model
    where worth.holdout_predictions > 0
),

grouped as (
    select
        arms.model,
        arms.experiment,
        arms.arm,
        panes.unit_group,
        sum(panes.labels)::double precision as labels,
        sum(panes.known) as known
    from arms
    inner join {{ ref('unit_panes') }} as panes
        on
            arms.model = panes.model
            and arms.counted_after < panes.pane_start
            and case
                when arms.variant = 'served' then panes.variant != 'holdout'
                else arms.variant = panes.variant
            end
            and (
                arms.experiment = 'holdback'
                or arms.model_version = panes.model_version
            )
    group by arms.model, arms.experiment, arms.arm, panes.unit_group
),

units as (
    select
        model,
        experiment,
        arm,
        case when sum(known) > 0 then
            {{ effective_sample_size('sum(labels)', 'sum(labels * labels)') }}
        end as unit_groups
    from grouped
    group by model, experiment, arm
)

select
    -- ids
    arms.model,
    arms.experiment,
    arms.arm,
    arms.variant,
    arms.model_version,
    arms.began_at,
    -- assignment
    arms.planned_share,
    arms.share,
    arms.share_p_value,
    case
        when arms.planned_share is null then 'no plan'
        when arms.share_p_value is null then 'too few'
        when {{ is_unplanned('arms.share_p_value') }} then 'sample ratio'
        else 'as planned'
    end as split,
    -- exposure
    arms.exposures,
    arms.labels,
    units.unit_groups
from arms
left join units
    on
        arms.model = units.model
        and arms.experiment = units.experiment
        and arms.arm = units.arm
