-- Whether a model should be trained now, and why; the trainer polls it.
-- Due when enough new labels came or the champion lost AUC against its promotion, unless held
-- back. Feature drift alone alerts and does not retrain.
-- trigger_id counts the runs that ended, so a trigger trains once and the next one is another.
-- grain: model.  key: model.  lateness: any; windows end at the model's clock.
with runs as (
    select
        events.model,
        events.event_time,
        coalesce(claims.known_at, events.ingested_at) as known_at,
        row_number() over (
            partition by events.model
            order by events.ingested_at desc, events.event_id desc
        ) as place,
        count(*) over (
            partition by events.model
            order by events.event_id
            rows between unbounded preceding and unbounded following
        ) as ended
    from {{ ref('stg_model_events') }} as events
    left join {{ source('control', 'claims') }} as claims
        on events.run_id = claims.run_id
    where events.event in ('trained', 'rejected')
),

last_run as (
    select
        model,
        event_time,
        known_at,
        ended
    from runs
    where place = 1
),

champion as (
    select
        model,
        model_version,
        {{ metric_number('baseline_auc') }} as baseline_auc
    from {{ ref('model_versions') }}
    where status = 'champion'
),

fresh as (
    select
        labels.model,
        count(*) as new_labels,
        min(labels.ingested_at) as first_new_label_at
    from {{ ref('labels') }} as labels
    left join last_run on labels.model = last_run.model
    where last_run.model is null or labels.ingested_at > last_run.known_at
    group by labels.model
),

known as (
    select
        model,
        sum(examples)::bigint as examples,
        count(*) as classes
    from {{ ref('label_counts') }}
    where examples > 0
    group by model
),

recent_panes as (
    select
        panes.*,
        positive.positive_label
    from {{ ref('label_panes') }} as panes
    inner join {{ ref('positive_labels') }} as positive on panes.model = positive.model
    inner join {{ ref('model_clock') }} as clock on panes.model = clock.model
    inner join {{ ref('model_policies') }} as policies on panes.model = policies.model
    inner join champion
        on panes.model = champion.model and panes.model_version = champion.model_version
    where
        panes.clock = 'label'
        and panes.variant != 'shadow'
        and panes.pane_start
        >= {{ pane_start('1 hour', '(clock.event_clock - policies.metric_window)') }}
),

{{ classification('recent', 'recent_panes', ['model']) }},

drifted as (
    select
        model,
        max(psi) filter (where status != 'too few rows') as psi,
        count(*) filter (where status = 'drifted') as features
    from {{ ref('feature_drift') }}
    group by model
),

facts as (
    select
        clock.model,
        champion.model_version,
        clock.event_clock,
        policies.min_new_labels,
        policies.min_sample,
        policies.cooldown,
        champion.baseline_auc,
        recent.auc as recent_auc,
        drifted.psi,
        last_run.event_time as last_run_at,
        fresh.first_new_label_at,
        coalesce(last_run.ended, 0) as runs,
        coalesce(known.examples, 0) as examples,
        coalesce(known.classes, 0) as classes,
        coalesce(recent.labeled, 0) as recent_labels,
        coalesce(fresh.new_labels, 0) as new_labels,
        coalesce(drifted.features, 0) as drifted_features,
        coalesce(fresh.new_labels, 0) >= policies.min_new_labels as labels_due,
        coalesce(
            recent.labeled >= policies.min_sample
            and recent.auc < champion.baseline_auc * (1 - policies.max_metric_drop),
            false
        ) as metric_due
    from {{ ref('model_clock') }} as clock
    inner join {{ ref('model_policies') }} as policies on clock.model = policies.model
    left join champion on clock.model = champion.model
    left join last_run on clock.model = last_run.model
    left join fresh on clock.model = fresh.model
    left join known on clock.model = known.model
    left join recent on clock.model = recent.model
    left join drifted on clock.model = drifted.model
),

judged as (
    select
        *,
        case
            when not (labels_due or metric_due) then null
            when classes < 2 then 'every label so far is the same'
            when examples < min_sample
                then examples || ' labels, of at least ' || min_sample
            when new_labels = 0 then 'no label since the last run'
            when event_clock < last_run_at + cooldown
                then
                    'cooling down until '
                    || to_char(last_run_at + cooldown, 'YYYY-MM-DD HH24:MI')
        end as held_back_by
    from facts
)

select
    model,
    model_version,
    model || '/' || (runs + 1) as trigger_id,
    (labels_due or metric_due) and held_back_by is null as due,
    case
        when labels_due or metric_due then
            concat_ws(
                '; ',
                case when labels_due then new_labels || ' new labels' end,
                case when metric_due then
                    'auc ' || round(recent_auc::numeric, 3) || ' against '
                    || round(baseline_auc::numeric, 3) || ' at promotion'
                end,
                case when drifted_features > 0 then
                    drifted_features || ' features drifted, psi up to '
                    || round(psi::numeric, 2)
                end
            )
    end as reason,
    held_back_by,
    new_labels,
    examples,
    baseline_auc,
    recent_auc,
    recent_labels,
    psi,
    drifted_features,
    first_new_label_at,
    last_run_at,
    event_clock
from judged
