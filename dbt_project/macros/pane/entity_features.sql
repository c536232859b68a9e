{#- Features of an entity (a user, a session, an item, a segment) over rolling 30 days. -#}

{#-
  Predictions and labels of items, an hour's pane a row: model, item_id, happened_at (start of the
  pane), until (when it was revised; null: not), answered_at, predictions, label, labels, reward.
-#}
{% macro item_facts() -%}
    select
        model,
        item_id,
        pane_start as happened_at,
        null::timestamptz as until,
        last_event_time as answered_at,
        inferences as predictions,
        null::text as label,
        0::bigint as labels,
        0::numeric as reward
    from {{ ref('item_panes') }}
    union all
    select
        model,
        item_id,
        pane_start as happened_at,
        null::timestamptz as until,
        null::timestamptz as answered_at,
        0::bigint as predictions,
        label,
        labels,
        reward
    from {{ ref('item_label_panes') }}
    where labels != 0
{%- endmacro %}

{#-
  Predictions and labels of users or sessions, one a row, with the columns of item_facts. Shadow
  predictions, which nobody saw, do not count.
-#}
{% macro request_facts(entity) -%}
    select
        model,
        {{ entity }},
        event_time as happened_at,
        null::timestamptz as until,
        event_time as answered_at,
        1 as predictions,
        null::text as label,
        0 as labels,
        0::numeric as reward
    from {{ ref('stg_inference') }}
    where {{ entity }} is not null and variant != 'shadow'
    union all
    select
        model,
        {{ entity }},
        settled_at as happened_at,
        null::timestamptz as until,
        null::timestamptz as answered_at,
        0 as predictions,
        {{ class_of('label') }} as label,
        case when label is null then 0 else 1 end as labels,
        {{ exact('reward') }} as reward
    from {{ ref('labels') }}
    where {{ entity }} is not null and variant != 'shadow' and settled_at is not null
{%- endmacro %}

{#-
  A query of what the rolling 30 days of a user or a session hold now: the row of its history that
  holds, without the rows before it.
-#}
{% macro request_features(entity) -%}
with facts as (
    {{ request_facts(entity) }}
),

counted as (
    select
        facts.model,
        facts.{{ entity }},
        max(clock.event_clock) as event_clock,
        max(facts.answered_at) as last_seen,
        count(facts.answered_at) as predictions,
        count(facts.label) as labels,
        case when max(positive.positive_label) is not null then
            count(case when facts.label = positive.positive_label then 1 end)
        end as positives,
        coalesce(sum(facts.reward), 0)::double precision as reward
    from facts
    inner join {{ ref('model_clock') }} as clock on facts.model = clock.model
    inner join {{ ref('positive_labels') }} as positive on facts.model = positive.model
    where
        facts.happened_at > clock.event_clock - interval '720 hours'
        and facts.happened_at <= clock.event_clock
    group by facts.model, facts.{{ entity }}
)

select
    model,
    {{ entity }},
    event_clock + interval '00:00:00.000001' as event_timestamp,
    last_seen,
    predictions as predictions_30d,
    labels as labels_30d,
    positives as positives_30d,
    positives::double precision / nullif(labels, 0) as positive_rate_30d,
    reward as reward_30d
from counted
{%- endmacro %}

{#- Labels of segments, a minute's pane a row, with the columns of item_facts. -#}
{% macro segment_facts() -%}
    select
        model,
        segment,
        pane_start as happened_at,
        until_start as until,
        null::timestamptz as answered_at,
        0::bigint as predictions,
        label,
        labels,
        0::numeric as reward
    from {{ ref('segment_label_panes') }}
    where labels != 0
{%- endmacro %}

{#-
  CTEs and a query of an entity's rolling 30 days, with a row for each time at which a fact starts
  or stops counting. It follows a CTE `facts` with the columns of item_facts.

  entity  the column that names the entity
  delay   interval after which a fact counts, so that no prediction sees its own outcome
  now     the last time that is reported: an expression over `clock`, a row of model_clock
  of      which features are made
-#}
{% macro feature_history(
    entity, delay, now,
    of=['last_seen', 'predictions', 'labels', 'positives', 'positive_rate', 'reward']
) -%}
-- Each fact twice: where it starts to count, and where it stops.
steps as (
    select
        *,
        generate_series(0, 1) as ceased
    from facts
),

signed as (
    select
        steps.model,
        steps.{{ entity }},
        case
            when steps.ceased = 0 then steps.happened_at
            else least(steps.happened_at + interval '720 hours', steps.until)
        end + interval '{{ delay }}' as event_timestamp,
        case when steps.ceased = 0 then steps.answered_at end as answered_at,
        (1 - 2 * steps.ceased) * steps.predictions as predictions,
        (1 - 2 * steps.ceased) * steps.labels as labels,
        case
            when steps.label = positive.positive_label
                then (1 - 2 * steps.ceased) * steps.labels
            when positive.positive_label is not null then 0
        end as positives,
        (1 - 2 * steps.ceased) * steps.reward as reward
    from steps
    inner join {{ ref('positive_labels') }} as positive on steps.model = positive.model
),

moments as (
    select
        model,
        {{ entity }},
        event_timestamp,
        max(answered_at) as answered_at,
        sum(predictions) as predictions,
        sum(labels) as labels,
        sum(positives) as positives,
        sum(reward) as reward
    from signed
    group by model, {{ entity }}, event_timestamp
),

rolling as (
    select
        model,
        {{ entity }},
        event_timestamp,
        max(answered_at) over until_then as answered_at,
        (sum(predictions) over until_then)::bigint as predictions,
        (sum(labels) over until_then)::bigint as labels,
        (sum(positives) over until_then)::bigint as positives,
        (sum(reward) over until_then)::double precision as reward
    from moments
    window until_then as (
        partition by model, {{ entity }}
        order by event_timestamp
        rows between unbounded preceding and current row
    )
)

select
    rolling.model,
    rolling.{{ entity }},
    rolling.event_timestamp
    {%- for feature in of %},
    {%- if feature == 'last_seen' %}
    case when rolling.predictions > 0 then rolling.answered_at end as last_seen
    {%- elif feature == 'positive_rate' %}
    rolling.positives::double precision / nullif(rolling.labels, 0)
        as positive_rate_30d
    {%- else %}
    case when rolling.predictions + rolling.labels > 0 then rolling.{{ feature }} end
        as {{ feature }}_30d
    {%- endif %}
    {%- endfor %}
from rolling
inner join {{ ref('model_clock') }} as clock on rolling.model = clock.model
where rolling.event_timestamp <= {{ now }}
{%- endmacro %}
