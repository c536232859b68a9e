-- Nothing is lost or counted twice on the way from the events into the panes.
with events as (
    select
        model,
        count(*) as inferences
    from {{ ref('stg_inference') }}
    group by model
),

labeled as (
    select
        model,
        count(*) as examples
    from {{ ref('labels') }}
    group by model
),

counted as (
    select
        model,
        'inference_panes ' || grain as pane,
        inferences as counted,
        'inferences' as unit
    from {{ ref('inference_panes') }}
    union all
    select
        model,
        'request_panes ' || grain as pane,
        inferences as counted,
        'inferences' as unit
    from {{ ref('request_panes') }}
    union all
    select
        model,
        'latency_panes ' || grain as pane,
        inferences as counted,
        'inferences' as unit
    from {{ ref('latency_panes') }}
    union all
    select
        model,
        'model_activity' as pane,
        inferences as counted,
        'inferences' as unit
    from {{ ref('model_activity') }}
    union all
    select
        model,
        'label_panes ' || clock || ' ' || grain as pane,
        examples as counted,
        'examples' as unit
    from {{ ref('label_panes') }}
    union all
    select
        model,
        'label_counts' as pane,
        examples as counted,
        'examples' as unit
    from {{ ref('label_counts') }}
),

totals as (
    select
        model,
        pane,
        unit,
        sum(counted) as counted
    from counted
    group by model, pane, unit
)

select
    totals.*,
    events.inferences,
    labeled.examples
from totals
left join events on totals.model = events.model
left join labeled on totals.model = labeled.model
where
    totals.counted != case totals.unit
        when 'inferences' then events.inferences
        else coalesce(labeled.examples, 0)
    end
    or events.model is null
