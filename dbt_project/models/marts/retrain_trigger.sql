-- Whether a model should be trained now, and why; the trainer polls it.
-- Due when enough new labels came, the champion is worse than at its promotion (metric_drop), its
-- error rose (Page-Hinkley), its metric has crossed its threshold or is forecast to, the schedule says
-- so, or features drifted while labels are late. Feature drift alone raises an alert and does not
-- retrain.
-- Never due for a model that is watched only (policy learn), or while a version is on its way
-- (rollout_trigger), or while the loop feeds on itself and does harm (performative_check). While a champion has made no
-- prediction yet, or none lately, other versions' metrics say nothing about it: only labels, the
-- schedule and drift make a run due.
-- trigger_id counts the runs that ended, so a trigger trains once and the next one is another.
-- grain: model.  key: model.  lateness: any; windows end at the model's clock.
with heard as (
    select
        model,
        max(last_known_at) as last_known_at
    from {{ ref('feedback_panes') }}
    where grain = 'ever' and label is not null
    group by model
),

drifted as (
    select
        model,
        max(psi_excess) filter (where status not in ('too few rows', 'identifier'))
            as psi,
        count(*) filter (where status = 'drifted') as features
    from {{ ref('feature_psi') }}
    group by model
),

falling as (
    select
        model,
        min(
            metric || case status
                when 'crossed' then ' has crossed its threshold'
                else ' is forecast to cross its threshold on '
                    || {{ utc_text('crosses_at', 'YYYY-MM-DD') }}
            end
        ) as forecast
    from {{ ref('metric_forecast') }}
    where status in ('crossing', 'crossed')
    group by model
),

rolling as (
    select
        model,
        max(model_version) as model_version
    from {{ ref('rolling_versions') }}
    where not is_overtaken
    group by model
),

self_fed {{ as_materialized() }} (
    select model from {{ ref('performative_check') }}
    where halts
),

facts as (
    select
        clock.model,
        champion.model_version,
        rolling.model_version as rolling_version,
        self_fed.model is not null as feeds_itself,
        clock.event_clock,
        policies.learns,
        policies.min_new_labels,
        policies.min_sample,
        policies.cooldown,
        metrics.metric,
        metrics.baseline,
        metrics.recent,
        drifted.psi,
        concept.statistic as page_hinkley,
        falling.forecast,
        labels.last_outcome,
        labels.last_run_at,
        labels.first_new_label_at,
        labels.runs,
        labels.examples,
        labels.classes,
        coalesce(metrics.labeled, 0) as recent_labels,
        labels.new_labels,
        coalesce(drifted.features, 0) as drifted_features,
        labels.new_labels >= policies.min_new_labels as labels_due,
        coalesce(metrics.status = 'dropped', false) as metric_due,
        coalesce(concept.status = 'drifted', false)
        and coalesce(champion.is_serving, true) as concept_due,
        falling.model is not null
        and coalesce(champion.is_serving, true) as forecast_due,
        coalesce(
            policies.retrain_every > interval '0 seconds'
            and clock.event_clock
            >= coalesce(
                labels.last_run_at,
                greatest(clock.first_event_time, samples.first_hour)
            ) + policies.retrain_every,
            false
        ) as schedule_due,
        coalesce(
            drifted.features > 0
            and policies.default_label is null
            and clock.event_clock >= heard.last_known_at + policies.label_patience,
            false
        ) as drift_due
    from {{ ref('model_clock') }} as clock
    inner join {{ ref('model_policies') }} as policies on clock.model = policies.model
    inner join {{ ref('labels_since_run') }} as labels on clock.model = labels.model
    left join {{ ref('sample_spans') }} as samples on clock.model = samples.model
    left join {{ ref('champions') }} as champion on clock.model = champion.model
    left join {{ ref('metric_drop') }} as metrics on clock.model = metrics.model
    left join {{ ref('concept_drift') }} as concept on clock.model = concept.model
    left join heard on clock.model = heard.model
    left join drifted on clock.model = drifted.model
    left join falling on clock.model = falling.model
    left join rolling on clock.model = rolling.model
    left join self_fed on clock.model = self_fed.model
),

judged as (
    select
        *,
        labels_due
        or metric_due
        or concept_due
        or forecast_due
        or schedule_due
        or drift_due
            as is_wanted,
        case
            when not learns
                then 'watched only: headrace train ' || {{ shell_word('model') }}
            when classes < 2 then 'every label so far is the same'
            when examples < min_sample
                then examples || ' labels, of at least ' || min_sample
            when new_labels = 0 then 'no label since the last run'
            when feeds_itself
                then
                    'what it serves changes its labels, and the holdback is better: '
                    || 'performative_check'
            when rolling_version is not null
                then rolling_version || ' is on its way: headrace rollouts'
            when last_outcome = 'rejected' and new_labels < min_sample
                then
                    'only ' || new_labels || ' labels since the last run was rejected, '
                    || 'of at least ' || min_sample
            when last_outcome = 'rolled_back' and new_labels < min_new_labels
                then
                    'only ' || new_labels || ' labels since a version was taken back, '
                    || 'of at least ' || min_new_labels
            when event_clock < last_run_at + cooldown
                then
                    'cooling down until '
                    || {{ utc_text('(last_run_at + cooldown)') }}
                    || ' UTC'
        end as obstacle
    from facts
)

select
    model,
    model_version,
    model || '/' || (runs + 1) as trigger_id,
    is_wanted and obstacle is null as due,
    case
        when is_wanted then
            concat_ws(
                '; ',
                case when labels_due then new_labels || ' new labels' end,
                case when metric_due then
                    metric || ' ' || {{ with_decimals('recent', 3) }} || ' against '
                    || {{ with_decimals('baseline', 3) }} || ' at promotion'
                end,
                case when concept_due then
                    'error rose, page-hinkley '
                    || {{ with_decimals('page_hinkley', 2) }}
                end,
                case when forecast_due then forecast end,
                case when schedule_due then 'scheduled' end,
                case when drift_due then 'labels are late' end,
                case when drifted_features > 0 then
                    drifted_features || ' features drifted, psi up to '
                    || {{ with_decimals('psi', 2) }}
                end
            )
    end as reason,
    case when is_wanted then obstacle end as held_back_by,
    new_labels,
    examples,
    case when metric in ('auc', 'macro_auc') then baseline end as baseline_auc,
    case when metric in ('auc', 'macro_auc') then recent end as recent_auc,
    recent_labels,
    psi,
    drifted_features,
    page_hinkley,
    first_new_label_at,
    last_run_at,
    event_clock
from judged
