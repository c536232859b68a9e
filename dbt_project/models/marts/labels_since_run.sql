-- What a model can learn from now: its labels, their classes, and how many of them are new since
-- its last run. retrain_trigger judges it.
-- New is what arrived after that run looked, and what the label window closed upon after the model's
-- clock had moved on from where that run saw it, in whole minutes. A label that is said again is not
-- new. Rewards are no labels to a model whose task is to predict classes or numbers.
-- grain: model.  key: model.  lateness: any; a late label is new when it comes.
with last_run as (
    select
        *,
        {{ pane_start('1 minute', 'known_at') }} as known_minute
    from {{ ref('last_runs') }}
),

learners as (
    select
        model,
        coalesce(task in ('classification', 'regression'), false) as ignores_rewards
    from {{ ref('model_tasks') }}
),

-- Whole minutes by the pane; the minute in which the last run looked, label by label.
arrived as (
    select
        arrivals.model,
        arrivals.pane_start as minute,
        arrivals.labels
        - case when learners.ignores_rewards then arrivals.rewards else 0 end as labels
    from {{ ref('label_arrivals') }} as arrivals
    inner join learners on arrivals.model = learners.model
    left join last_run on arrivals.model = last_run.model
    where
        arrivals.labels
        > case when learners.ignores_rewards then arrivals.rewards else 0 end
        and (last_run.model is null or arrivals.pane_start > last_run.known_at)
    union all
    select
        arrivals.model,
        null::timestamptz as minute,
        arrivals.labels
        - case when learners.ignores_rewards then arrivals.rewards else 0 end as labels
    from last_run
    inner join learners on last_run.model = learners.model
    inner join {{ ref('label_arrivals') }} as arrivals
        on
            last_run.model = arrivals.model
            and last_run.known_minute > arrivals.pane_start
            and last_run.event_clock < arrivals.closed_start
    where
        arrivals.labels
        > case when learners.ignores_rewards then arrivals.rewards else 0 end
    union all
    select
        labels.model,
        case when labels.arrived_at > last_run.known_at then last_run.known_minute end
            as minute,
        1::bigint as labels
    from last_run
    inner join {{ ref('labels') }} as labels
        on
            last_run.model = labels.model
            and last_run.known_minute <= labels.arrived_at
            and last_run.known_minute + interval '1 minute' > labels.arrived_at
    inner join learners on last_run.model = learners.model
    where
        labels.variant != 'shadow'
        and labels.settled_at is not null
        and not (learners.ignores_rewards and {{ is_reward('labels.kind') }})
        and (
            labels.arrived_at > last_run.known_at
            or (
                (labels.kind = 'default' or labels.settled_at > labels.known_at)
                and {{ pane_start('1 minute', 'labels.settled_at') }}
                > last_run.event_clock
            )
        )
),

spans as (
    select
        arrived.model,
        learners.ignores_rewards,
        last_run.known_at,
        sum(arrived.labels)::bigint as new_labels,
        min(arrived.minute) as first_minute
    from arrived
    inner join learners on arrived.model = learners.model
    left join last_run on arrived.model = last_run.model
    group by arrived.model, learners.ignores_rewards, last_run.known_at
),

-- The first that arrived, to the microsecond, from the labels of that minute alone.
fresh as (
    select
        spans.model,
        spans.new_labels,
        arrived_first.first_new_label_at
    from spans
    left join {{ lateral() }} (
        select
            span.model,
            min(labels.arrived_at) as first_new_label_at
        from {{ span([
            'model', 'ignores_rewards', 'known_at', 'first_minute'
        ]) }} as span
        inner join {{ ref('labels') }} as labels
            on
                span.model = labels.model
                and span.first_minute
                = {{ pane_start('1 minute', 'labels.arrived_at') }}
                and span.first_minute <= labels.arrived_at
                and labels.arrived_at < span.first_minute + interval '1 minute'
        where
            labels.variant != 'shadow'
            and labels.settled_at is not null
            and (span.known_at is null or labels.arrived_at > span.known_at)
            and not (span.ignores_rewards and {{ is_reward('labels.kind') }})
        group by span.model
    ) as arrived_first on spans.model = arrived_first.model
),

known as (
    select
        counts.model,
        sum(
            counts.examples
            - case when learners.ignores_rewards then counts.rewards else 0 end
        )::bigint as examples,
        count(case
            when not learners.ignores_rewards or counts.examples > counts.rewards then 1
        end) as classes
    from {{ ref('label_counts') }} as counts
    inner join learners on counts.model = learners.model
    where counts.examples > 0
    group by counts.model
)

select
    clock.model,
    coalesce(known.examples, 0) as examples,
    coalesce(known.classes, 0) as classes,
    coalesce(fresh.new_labels, 0) as new_labels,
    fresh.first_new_label_at,
    coalesce(last_run.runs, 0) as runs,
    last_run.outcome as last_outcome,
    last_run.ended_at as last_run_at
from {{ ref('model_clock') }} as clock
left join known on clock.model = known.model
left join fresh on clock.model = fresh.model
left join last_run on clock.model = last_run.model
