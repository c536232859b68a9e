{#-
  The label of every prediction that got feedback: one SELECT with a row a request_id.

  Among several feedback events of one kind the first, last or largest counts, their sum, or what
  most people said last (`wins`; without a user_id all count as one person, and of labels that as
  many said the latest counts); among several kinds the one of the highest priority, then the
  latest. What was retracted does not count, nor does a reward dated before its prediction.

  The reward is that of the kinds other than label and correction, if there are any: the kind's
  weight times the value; where there is no value it is the weight if the prediction was right, else
  0.

  trainer/dataset.py applies the same rules to what was known at the time of a claim: change both.

  as_of  true: the label after each moment at which something became known about a prediction with a
         segment, as it was known then: a row a request_id and moment (`as_of`), with the next
         moment (`until`) and without a row where all was retracted
-#}
{% macro chosen_labels(as_of=false) -%}
{%- set of = 'request_id, as_of' if as_of else 'request_id' -%}
{%- set latest = 'feedback_time desc, feedback_id desc' -%}
{%- set of_kind -%}
    partition by {{ of }}, kind
            order by kind
            rows between unbounded preceding and unbounded following
{%- endset -%}
with policies as (
    select
        defaults.kind,
        defaults.wins,
        defaults.priority,
        defaults.weight
    from {{ source('control', 'label_policies') }} as defaults
    where defaults.model = '*'
),

{% if as_of -%}
times as (
    select
        i.request_id,
        f.feedback_id,
        greatest(f.event_time, i.event_time) as as_of
    from {{ source('events', 'inference') }} as i
    inner join {{ source('events', 'feedback') }} as f on i.request_id = f.request_id
    where
        i.segment is not null
        and i.variant != 'shadow'
        and f.kind not in ('preference', 'report', 'comment')
),

moments as (
    select
        *,
        lead(as_of) over (
            partition by request_id
            order by as_of, feedback_id
        ) as until
    from times
),

{% endif -%}
heard as (
    select
        {%- if as_of %}
        moments.request_id,
        moments.as_of,
        moments.until,
        {%- else %}
        i.request_id,
        {%- endif %}
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
        nullif(f.user_id, '') as rater,
        {{ voice('f.kind', 'f.source') }} as voice,
        f.event_time as feedback_time,
        greatest(f.event_time, i.event_time) as known_at,
        greatest(f.ingested_at, i.ingested_at) as ingested_at,
        coalesce(own.wins, policies.wins) as wins,
        coalesce(own.priority, policies.priority) as priority,
        coalesce(own.weight, policies.weight) as weight
    from {{ ref('stg_inference') }} as i
    inner join {{ ref('stg_feedback') }} as f on i.served_id = f.request_id
    {%- if as_of %}
    inner join moments
        on
            i.request_id = moments.request_id
            and greatest(f.event_time, i.event_time) <= moments.as_of
            and moments.as_of is distinct from moments.until
    {%- endif %}
    inner join policies on f.kind = policies.kind
    left join {{ source('control', 'label_policies') }} as own
        on i.model = own.model and f.kind = own.kind
    left join {{ source('events', 'feedback') }} as retraction
        on
            f.request_id = retraction.request_id
            and f.feedback_id = retraction.retracts
            {%- if as_of %}
            and retraction.event_time <= moments.as_of
            {%- endif %}
    where
        f.label is not null
        and retraction.feedback_id is null
        and not {{ is_early_reward('f', 'i') }}
),

voiced as (
    select
        *,
        row_number() over (
            partition by {{ of }}, kind, rater
            order by {{ latest }}
        ) = 1 as is_vote
    from heard
),

counted as (
    select
        *,
        count(case when is_vote then 1 end) over (
            partition by {{ of }}, kind, label
            order by kind
            rows between unbounded preceding and unbounded following
        ) as agreeing
    from voiced
),

by_kind as (
    select
        *,
        row_number() over (
            partition by {{ of }}, kind
            order by
                case when wins = 'majority' and is_vote then agreeing end desc nulls last,
                case when wins = 'max' then value end desc nulls last,
                voice desc,
                case when wins = 'first' then feedback_time end asc,
                case when wins != 'first' then feedback_time end desc,
                case when wins = 'first' then feedback_id end asc,
                case when wins != 'first' then feedback_id end desc
        ) as place,
        case
            when wins = 'sum' then sum({{ exact('value', '1e18') }}) over ({{ of_kind }})
        end as total,
        count(case when is_vote then 1 end) over ({{ of_kind }}) as raters,
        min(ingested_at) over ({{ of_kind }}) as first_ingested_at
    from counted
),

weighed as (
    select
        *,
        coalesce({{ headrace.number_text('(total::double precision)') }}, label) as held,
        coalesce(total::double precision, value) as worth
    from by_kind
    where place = 1
),

decided as (
    select
        *,
        row_number() over (
            partition by {{ of }}
            order by priority desc, voice desc, {{ latest }}
        ) as rank,
        first_value(
            weight * coalesce(worth, case when held = prediction then 1 else 0 end)
        ) over (
            partition by {{ of }}
            order by
                case when kind in ('correction', 'label') then 1 else 0 end asc,
                priority desc,
                voice desc,
                {{ latest }}
            rows between unbounded preceding and unbounded following
        ) as reward,
        min(first_ingested_at) over (
            partition by {{ of }}
            order by request_id
            rows between unbounded preceding and unbounded following
        ) as first_heard_at
    from weighed
)

{% if as_of -%}
select
    request_id,
    as_of,
    until,
    model,
    segment,
    held as label
{%- else -%}
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
    reward,
    kind,
    source,
    raters,
    agreeing,
    -- times
    inference_time,
    feedback_time,
    known_at,
    ingested_at,
    first_heard_at as first_ingested_at
{%- endif %}
from decided
where rank = 1
{%- endmacro %}

{#-
  How near feedback is to what a person thinks of a prediction: what people said (2) before what they
  did (1) before what a system measured (0). Labels and corrections are right or wrong, whoever sent
  them.
-#}
{% macro voice(kind, source) -%}
    case
            when {{ kind }} in ('correction', 'label') then 2
            when {{ source }} = 'system' then 0
            when {{ source }} = 'implicit' then 1
            else 2
        end
{%- endmacro %}

{#-
  Whether feedback rewards a prediction before it was made, by the clocks of the events. A label may
  be older than a prediction; and a shadow prediction may be made long after the one it shadows.

  feedback, inference  names of the relations
-#}
{% macro is_early_reward(feedback, inference) -%}
    (
            {{ feedback }}.event_time < {{ inference }}.event_time
            and {{ feedback }}.kind not in ('correction', 'label')
            and {{ inference }}.shadow_of is null
        )
{%- endmacro %}
