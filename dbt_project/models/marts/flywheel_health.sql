-- Whether the loop turns: how many predictions a day are labelled, how soon, how good they were,
-- and which versions were made.
-- The last 30 days behind the model's clock, without shadow predictions.
-- grain: day of a model on which something happened.  key: (model, day).
-- lateness: any; a late label or a revision changes the day of its prediction and the day it became
-- known.
{#- Written out where it is read, so that a query for one day reads the panes of that day. -#}
{%- set spans %}(
    select
        model,
        last_day - days_back * interval '24 hours' as day,
        last_day - days_back * interval '24 hours' + interval '24 hours' as next_day
    from (
        select
            model,
            {{ pane_start('1 day', 'event_clock') }} as last_day,
            generate_series(0, 29) as days_back
        from {{ ref('model_clock') }}
    ) as clocks
) as spans{% endset %}

with answered as (
    select
        spans.model,
        spans.day,
        sum(panes.inferences)::bigint as predictions
    from {{ spans }}
    inner join {{ ref('request_panes') }} as panes
        on
            spans.model = panes.model
            and spans.day <= panes.pane_start
            and spans.next_day > panes.pane_start
    where panes.grain = '1 hour' and panes.variant != 'shadow'
    group by spans.model, spans.day
),

judged as (
    select
        spans.model,
        spans.day,
        sum(panes.pulls)::bigint as judged_predictions
    from {{ spans }}
    inner join {{ ref('arm_panes') }} as panes
        on
            spans.model = panes.model
            and spans.day <= panes.pane_start
            and spans.next_day > panes.pane_start
    group by spans.model, spans.day
),

labelled as (
    select
        spans.model,
        spans.day,
        sum(panes.examples)::bigint as labels,
        sum(panes.reward) as reward,
        sum(panes.examples) filter (
            where panes.label is not null and panes.prediction is not null
        ) as predicted,
        sum(case when panes.label = panes.prediction then panes.examples else 0 end)
            as correct
    from {{ spans }}
    inner join {{ ref('label_panes') }} as panes
        on
            spans.model = panes.model
            and spans.day <= panes.pane_start
            and spans.next_day > panes.pane_start
    where
        panes.clock = 'label'
        and panes.grain = '1 hour'
        and panes.variant != 'shadow'
        and panes.examples != 0
    group by spans.model, spans.day
),

delay_rows as (
    select
        spans.model,
        spans.day,
        panes.block,
        panes.counts
    from {{ spans }}
    inner join {{ ref('delay_panes') }} as panes
        on
            spans.model = panes.model
            and spans.day <= panes.pane_start
            and spans.next_day > panes.pane_start
),

delay_bins as (
    {{ opened_blocks('delay_rows', ['model', 'day'], sketch_block()) }}
),

{{ quantiles(
    'delays', 'delay_bins', ['model', 'day'], {'p50_seconds': 0.5, 'p95_seconds': 0.95}
) }},

steps as (
    select
        model,
        model_version,
        event_time,
        case
            when event in ('shadow', 'canary', 'promoted') then 'published' else event
        end as step
    from {{ ref('stg_model_events') }}
),

placed_steps as (
    select
        *,
        row_number() over (
            partition by model, model_version, step
            order by event_time
        ) as place
    from steps
),

-- A version is published once, whatever role it plays later.
lives as (
    select
        spans.model,
        spans.day,
        {%- for step in ['trained', 'published', 'rolled_back'] %}
        count(distinct case when steps.step = '{{ step }}' then steps.model_version end)
            as versions_{{ step }}{{ ',' if not loop.last }}
        {%- endfor %}
    from {{ spans }}
    inner join placed_steps as steps
        on
            spans.model = steps.model
            and spans.day <= steps.event_time
            and spans.next_day > steps.event_time
    where
        steps.step in ('trained', 'rolled_back')
        or (steps.step = 'published' and steps.place = 1)
    group by spans.model, spans.day
)

select
    spans.model,
    spans.day,
    -- predictions of the day
    coalesce(answered.predictions, 0) as predictions,
    coalesce(judged.judged_predictions, 0) as judged_predictions,
    coalesce(judged.judged_predictions, 0)::double precision
    / nullif(answered.predictions, 0) as label_coverage,
    -- labels of the day
    coalesce(labelled.labels, 0) as labels,
    case when coalesce(tasks.task, 'classification') = 'classification' then
        labelled.correct::double precision
        / nullif(labelled.predicted, 0)::double precision
    end as accuracy,
    {{ as_double('labelled.reward') }} / nullif(labelled.labels, 0) as mean_reward,
    delays.p50_seconds / 3600 as label_delay_p50_hours,
    delays.p95_seconds / 3600 as label_delay_p95_hours,
    -- versions of the day
    coalesce(lives.versions_trained, 0) as versions_trained,
    coalesce(lives.versions_published, 0) as versions_published,
    coalesce(lives.versions_rolled_back, 0) as versions_rolled_back
from {{ spans }}
{%- for part in ['answered', 'judged', 'labelled', 'delays', 'lives'] %}
left join {{ part }} on spans.model = {{ part }}.model and spans.day = {{ part }}.day
{%- endfor %}
left join {{ ref('model_tasks') }} as tasks on spans.model = tasks.model
where
    answered.predictions is not null
    or labelled.labels is not null
    or lives.model is not null
