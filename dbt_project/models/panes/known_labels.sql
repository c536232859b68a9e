-- What the label of a prediction with a segment was, as far as it was known then: from each moment
-- at which something was said of it, or taken back, until the next one. Shadow predictions are left
-- out. Where silence is a label (default_label), labels count from the end of the label window on,
-- and from there on silence is one while nothing is said.
-- grain: prediction and moment.  key: (request_id, model, item_id, as_of).
-- lateness: any; late feedback changes what was known from its event_time on.
-- depends_on: {{ ref('answered_again') }}, {{ ref('waiting_feedback') }}, {{ ref('clocks') }}
{{ config(
    key=['request_id', 'model', 'item_id', 'as_of'],
    recompute={
        'events.inference': '
            select n.request_id from new_rows as n
            where n.segment is not null and ' ~ has_feedback() ~ '
            union all ' ~ closed_predictions(),
        'events.feedback': '
            select n.request_id from new_rows as n
            inner join events.inference as i on n.request_id = i.request_id
            where i.segment is not null',
        'panes.clocks': closing_predictions(),
        'control.policies': repoliced_predictions(),
        'control.label_policies': 'select distinct request_id from panes.known_labels',
    },
    deletes=['control.policies', 'events.feedback'],
    retention='400 days',
    time_column='as_of'
) }}

{%- set prediction = 'request_id, model, item_id' %}
with said as (
    {{ chosen_labels(
        ref('stg_inference'), ref('stg_feedback'), source('control', 'label_policies'),
        as_of=true
    ) }}
),

-- The label window of each prediction stands before what was said of it.
timeline as (
    select
        {{ prediction }},
        segment,
        label,
        as_of,
        until,
        null::timestamptz as closes_at,
        0 as is_open
    from said
    union all
    select
        i.request_id,
        i.model,
        i.item_id,
        i.segment,
        terms.default_label as label,
        null::timestamptz as as_of,
        i.event_time + terms.label_window as until,
        i.event_time + terms.label_window as closes_at,
        case
            when i.event_time + terms.label_window > terms.event_clock then 1
            else 0
        end as is_open
    from {{ ref('stg_inference') }} as i
    inner join {{ ref('default_labels') }} as terms on i.model = terms.model
    where i.segment is not null and i.variant != 'shadow'
),

settled as (
    select
        {{ prediction }},
        segment,
        label,
        as_of,
        until,
        lead(as_of) over (
            partition by {{ prediction }}
            order by as_of asc nulls first
        ) as next_as_of,
        max(is_open) over of_prediction as is_open,
        max(closes_at) over of_prediction as closes_at,
        max(case when closes_at is not null then label end) over of_prediction
            as default_label
    from timeline
    window of_prediction as (
        partition by {{ prediction }}
        order by model
        rows between unbounded preceding and unbounded following
    )
),

-- Each label, and the silence after it.
steps as (
    select
        *,
        generate_series(0, 1) as is_silent
    from settled
    where is_open = 0
)

select
    {{ prediction }},
    case
        when is_silent = 0 then greatest(as_of, closes_at)
        else greatest(until, closes_at)
    end as as_of,
    case when is_silent = 0 then until else next_as_of end as until,
    segment,
    case when is_silent = 0 then label else default_label end as label
from steps
where
    (
        is_silent = 0
        and as_of is not null
        and (closes_at is null or until is null or until > closes_at)
    )
    or (
        is_silent = 1
        and closes_at is not null
        and until is not null
        and (next_as_of is null or next_as_of > greatest(until, closes_at))
    )
