{#- What the label of a prediction is. Nothing else says so: the pane, and the trainer, run this. -#}

{#-
  The label of every prediction that has one: a SELECT with a row a (request_id, model, item_id).

  Among several feedback events of one kind the first, last or largest counts, their sum, or what
  most people said last (`wins`; without a user_id all count as one person, and of labels that as
  many said the latest counts); among several kinds the one of the highest priority, then the
  latest. At the same instant the greater feedback_id is the later one, byte by byte. What was
  retracted does not count, nor does a reward dated before its prediction.

  The reward is that of the kinds other than label and correction, if there are any: the kind's
  weight times the value; where there is no value it is the weight if the prediction was right, else
  0.

  Silence is a label, too: the default_label of a prediction without feedback whose label window is
  over by the model's clock, until feedback comes. Where it is one, labels count from the end of
  their window on (settled_at; null before), as what was said at once would come long before the
  silence beside it. The reward of silence is its number, where it is one and the model hears values:
  0 where nobody clicked, whatever was predicted. Else it is 1 if the prediction was right, or 0.

  inference  relation with the columns of stg_inference
  feedback   relation with the columns of stg_feedback
  policies   relation with those of control.label_policies
  terms      relation with those of label_terms; none: silence says nothing
  as_of      true: the label after each moment at which something became known about a prediction
             with a segment, as it was known then: a row a prediction and moment (`as_of`), with the
             next moment (`until`) and without a row where all was retracted. Without terms
  heard      with as_of, a relation of moments of arrival (request_id, model, item_id, as_of, until,
             counts_from, next_counts_from; the last two are returned, too): the label after each as
             it was heard by then, whatever the events are dated
-#}
{% macro chosen_labels(inference, feedback, policies, terms=none, as_of=false, heard=none) -%}
{%- set time = 'ingested_at' if heard else 'event_time' -%}
{%- set of = 'request_id, model, item_id' ~ (', as_of' if as_of else '') -%}
{%- set latest = 'feedback_time desc, ' ~ headrace.in_bytes('feedback_id') ~ ' desc' -%}
with defaults as (
    select
        kind,
        wins,
        priority,
        weight
    from {{ policies }}
    where model = '*'
),

said as (
    select
        f.feedback_id,
        f.request_id,
        f.model,
        f.item_id,
        f.kind,
        f.source,
        f.label,
        f.value,
        nullif(f.user_id, '') as rater,
        {{ headrace.voice('f.kind', 'f.source') }} as voice,
        f.event_time,
        f.ingested_at,
        defaults.wins,
        defaults.priority,
        defaults.weight
    from {{ feedback }} as f
    inner join defaults on f.kind = defaults.kind
    where
        f.label is not null
        {%- if not as_of %}
        and {{ headrace.is_standing('f', feedback) }}
        {%- endif %}
),

{% if as_of and not heard -%}
times as (
    select
        i.request_id,
        i.model,
        i.item_id,
        f.feedback_id,
        greatest(f.event_time, i.event_time) as as_of
    from {{ inference }} as i
    inner join {{ feedback }} as f
        on i.request_id = f.request_id and {{ headrace.is_about('f', 'i') }}
    where
        i.segment is not null
        and i.variant != 'shadow'
        and f.kind not in ('preference', 'report', 'comment')
),

moments as (
    select
        *,
        lead(as_of) over (
            partition by request_id, model, item_id
            order by as_of, {{ headrace.in_bytes('feedback_id') }}
        ) as until
    from times
),

{% endif -%}
known as (
    select
        {%- if as_of %}
        moments.request_id,
        moments.as_of,
        moments.until,
        {%- if heard %}
        moments.counts_from,
        moments.next_counts_from,
        {%- endif %}
        {%- else %}
        i.request_id,
        {%- endif %}
        i.model,
        i.model_version,
        i.variant,
        i.segment,
        i.user_id,
        i.session_id,
        i.item_id,
        i.prediction,
        i.score,
        i.propensity,
        i.target_propensity,
        i.position,
        i.event_time as inference_time,
        said.feedback_id,
        said.kind,
        said.source,
        said.label,
        said.value,
        said.rater,
        said.voice,
        said.event_time as feedback_time,
        greatest(said.event_time, i.event_time) as known_at,
        greatest(said.ingested_at, i.ingested_at) as ingested_at,
        coalesce(own.wins, said.wins) as wins,
        coalesce(own.priority, said.priority) as priority,
        coalesce(own.weight, said.weight) as weight
        {%- if terms %},
        terms.default_label,
        terms.hears_values,
        i.event_time + terms.label_window as closes_at,
        i.event_time + terms.label_window <= terms.event_clock as is_closed
        {%- endif %}
    from {{ inference }} as i
    {%- if as_of %}
    inner join {{ heard ~ ' as moments' if heard else 'moments' }}
        on
            i.request_id = moments.request_id
            and {{ headrace.is_same_prediction('i', 'moments') }}
            and moments.as_of is distinct from moments.until
    {%- endif %}
    {{ 'left' if terms else 'inner' }} join said
        on
            i.served_id = said.request_id
            and {{ headrace.is_about('said', 'i') }}
            {%- if as_of %}
            and greatest(said.{{ time }}, i.{{ time }}) <= moments.as_of
            {%- endif %}
            and not {{ headrace.is_early_reward('said', 'i') }}
    left join {{ policies }} as own on i.model = own.model and said.kind = own.kind
    {%- if terms %}
    left join {{ terms }} as terms on i.model = terms.model
    where
        said.feedback_id is not null
        or i.event_time + terms.label_window <= terms.event_clock
    {%- elif as_of %}
    where {{ headrace.is_standing('said', feedback, 'moments.as_of', time) }}
    {%- endif %}
),

voiced as (
    select
        *,
        row_number() over (
            partition by {{ of }}, kind, rater
            order by {{ latest }}
        ) = 1 as is_vote
    from known
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
                case when wins = 'first' then {{ headrace.in_bytes('feedback_id') }} end asc,
                case when wins != 'first' then {{ headrace.in_bytes('feedback_id') }} end desc
        ) as place,
        case when wins = 'sum' then sum({{ headrace.exact('value', '1e18') }}) over of_kind end
            as total,
        case
            when wins = 'sum' then max(ingested_at) over of_kind
            else min(ingested_at) over of_label
        end as arrived_at,
        count(case when is_vote then 1 end) over of_kind as raters,
        min(ingested_at) over of_kind as first_ingested_at
    from counted
    window
        of_kind as (
            partition by {{ of }}, kind
            order by kind
            rows between unbounded preceding and unbounded following
        ),
        of_label as (
            partition by {{ of }}, label
            order by label
            rows between unbounded preceding and unbounded following
        )
),

weighed as (
    select
        *,
        {%- if terms %}
        coalesce(
            {{ headrace.number_text('(total::double precision)') }}, label, default_label
        ) as held,
        case
            when feedback_id is not null then coalesce(total::double precision, value)
            when hears_values = 1 and {{ headrace.is_number('default_label') }}
                then default_label::double precision
        end as worth
        {%- else %}
        coalesce({{ headrace.number_text('(total::double precision)') }}, label) as held,
        coalesce(total::double precision, value) as worth
        {%- endif %}
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
            coalesce(weight, 1)
            * coalesce(worth, {{ headrace.is_right('held', 'prediction') }})
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
    model,
    item_id,
    as_of,
    until,
    {%- if heard %}
    counts_from,
    next_counts_from,
    {%- endif %}
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
    session_id,
    item_id,
    -- what came out
    prediction,
    score,
    propensity,
    target_propensity,
    decided.position,
    -- what was right
    held as label,
    reward,
    coalesce(kind, 'default') as kind,
    coalesce(source, 'system') as source,
    case when feedback_id is not null then raters end as raters,
    case when feedback_id is not null then agreeing end as agreeing,
    -- times
    inference_time,
    feedback_time,
    case when feedback_id is null then closes_at else known_at end as known_at,
    case
        when default_label is null then known_at
        when feedback_id is null then closes_at
        when is_closed then greatest(known_at, closes_at)
    end as settled_at,
    ingested_at,
    arrived_at,
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

{#-
  What silence says, of the models where it says anything: model, event_clock, hears_values,
  default_label, and label_window, in hours and not in days, so that no time zone changes its length.

  clocks, policies  relations with the columns of panes.clocks and control.policies
-#}
{% macro label_terms(clocks, policies) -%}
    select
        clocks.model,
        clocks.event_clock,
        clocks.hears_values,
        coalesce(own_label.value, any_label.value) as default_label,
        {{ headrace.fixed_length('(coalesce(own_window.value, any_window.value))::interval') }}
            as label_window
    from (
        select model, event_clock, hears_values, '*' as all_models from {{ clocks }}
    ) as clocks
    {%- for policy in ['label', 'window'] %}
    {%- set name = "'" ~ {'label': 'default_label', 'window': 'label_window'}[policy] ~ "'" %}
    inner join {{ policies }} as any_{{ policy }}
        on clocks.all_models = any_{{ policy }}.model and any_{{ policy }}.policy = {{ name }}
    left join {{ policies }} as own_{{ policy }}
        on clocks.model = own_{{ policy }}.model and own_{{ policy }}.policy = {{ name }}
    {%- endfor %}
    where coalesce(own_label.value, any_label.value) != ''
{%- endmacro %}

{#-
  Predictions whose label window closes when a clock moves from old_rows to new_rows, and silent
  ones of a model that hears its first value.
-#}
{% macro closing_predictions() -%}
    select predictions.request_id
    from new_rows as moved
    inner join ({{ headrace.label_terms('panes.clocks', 'control.policies') }}) as terms
        on moved.model = terms.model
    left join old_rows as before on moved.model = before.model
    inner join events.inference as predictions
        on
            moved.model = predictions.model
            and predictions.event_time <= moved.event_clock - terms.label_window
            and predictions.event_time
            > coalesce(before.event_clock - terms.label_window, '-infinity')
    union all
    select silent.request_id
    from new_rows as moved
    inner join old_rows as before
        on moved.model = before.model and moved.hears_values > before.hears_values
    inner join panes.labels as silent on moved.model = silent.model and silent.kind = 'default'
{%- endmacro %}

{#- New predictions whose label window is over already. -#}
{% macro closed_predictions() -%}
    select n.request_id
    from (
        select distinct model from new_rows
        where exists (
            select from control.policies where policy = 'default_label' and value != ''
        )
    ) as models
    inner join ({{ headrace.label_terms('panes.clocks', 'control.policies') }}) as terms
        on models.model = terms.model
    inner join new_rows as n
        on
            terms.model = n.model
            and n.event_time <= terms.event_clock - terms.label_window
{%- endmacro %}

{#- Predictions of the models for which changed rows of control.policies change what silence says. -#}
{% macro repoliced_predictions() -%}
    select predictions.request_id
    from panes.clocks as clocks
    inner join events.inference as predictions on clocks.model = predictions.model
    where
        exists (
            select from new_rows as changed
            where changed.model in ('*', clocks.model) and changed.policy = 'default_label'
        )
        or (
            exists (
                select from new_rows as changed
                where changed.model in ('*', clocks.model) and changed.policy = 'label_window'
            )
            and exists (
                select from ({{ headrace.label_terms('panes.clocks', 'control.policies') }}) as terms
                where terms.model = clocks.model
            )
        )
{%- endmacro %}
