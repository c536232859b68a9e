{#-
  The label of every prediction that got feedback: one SELECT with a row a request_id.

  Among several feedback events of one kind the first, last or largest counts, or their sum
  (`wins`); among several kinds the one of the highest priority, then the latest. The reward is the
  kind's weight times the value; where there is no value it is the weight if the prediction was
  right, else 0.

  trainer/dataset.py applies the same rules to what was known at the time of a claim: change both.
-#}
{% macro chosen_labels() -%}
with policies as (
    select
        defaults.kind,
        defaults.wins,
        defaults.priority,
        defaults.weight
    from {{ source('control', 'label_policies') }} as defaults
    where defaults.model = '*'
),

heard as (
    select
        i.request_id,
        i.model,
        i.model_version,
        i.variant,
        i.segment,
        i.user_id,
        i.item_id,
        i.prediction,
        i.score,
        i.propensity,
        i.event_time as inference_time,
        f.feedback_id,
        f.kind,
        f.source,
        f.label,
        f.value,
        f.event_time as feedback_time,
        greatest(f.event_time, i.event_time) as known_at,
        greatest(f.ingested_at, i.ingested_at) as ingested_at,
        coalesce(own.wins, policies.wins) as wins,
        coalesce(own.priority, policies.priority) as priority,
        coalesce(own.weight, policies.weight) as weight
    from {{ ref('stg_inference') }} as i
    inner join {{ ref('stg_feedback') }} as f on i.served_id = f.request_id
    inner join policies on f.kind = policies.kind
    left join {{ source('control', 'label_policies') }} as own
        on i.model = own.model and f.kind = own.kind
    where f.label is not null
),

by_kind as (
    select
        *,
        row_number() over (
            partition by request_id, kind
            order by
                case when wins = 'max' then value end desc nulls last,
                case when wins = 'first' then feedback_time end asc,
                case when wins != 'first' then feedback_time end desc,
                case when wins = 'first' then feedback_id end asc,
                case when wins != 'first' then feedback_id end desc
        ) as place,
        case when wins = 'sum' then sum({{ exact('value', '1e18') }}) over of_kind end as total,
        min(ingested_at) over of_kind as first_ingested_at
    from heard
    window of_kind as (
        partition by request_id, kind
        order by kind
        rows between unbounded preceding and unbounded following
    )
),

decided as (
    select
        *,
        coalesce({{ headrace.number_text('(total::double precision)') }}, label) as held,
        coalesce(total::double precision, value) as worth,
        row_number() over (
            partition by request_id
            order by priority desc, feedback_time desc, feedback_id desc
        ) as rank,
        min(first_ingested_at) over (
            partition by request_id
            order by request_id
            rows between unbounded preceding and unbounded following
        ) as first_heard_at
    from by_kind
    where place = 1
)

select
    -- ids
    request_id,
    feedback_id,
    model,
    model_version,
    variant,
    segment,
    user_id,
    item_id,
    -- what came out
    prediction,
    score,
    propensity,
    -- what was right
    held as label,
    weight * coalesce(worth, {{ headrace.is_right('held', 'prediction') }}) as reward,
    kind,
    source,
    -- times
    inference_time,
    feedback_time,
    known_at,
    ingested_at,
    first_heard_at as first_ingested_at
from decided
where rank = 1
{%- endmacro %}
