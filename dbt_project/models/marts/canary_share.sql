-- The share of the predictions of canary and champion that each canary has, beside the one that the
-- serving plan gives it. Only the whole hours that begin ten minutes after the plan's last change
-- count: by then every gateway has loaded the versions. A user stays on one side, so the share is
-- as uncertain as the users that it is of.
-- grain: canary that the gateway serves beside a champion.  key: (model, model_version).
-- lateness: any; a late prediction counts.
with plans as (
    select
        model,
        model_version,
        variant,
        traffic
        {%- for column in ['model_version', 'traffic'] %},
        max(case when variant = 'champion' then {{ column }} end) over (
            partition by model
            order by model_version
            rows between unbounded preceding and unbounded following
        ) as champion_{{ column }}
        {%- endfor %}
    from {{ ref('serving_plan') }}
),

changes as (
    select
        model,
        max(changed_at) as changed_at
    from {{ ref('model_versions') }}
    where status not in ('trained', 'rejected', 'shadow')
    group by model
),

counted as (
    select
        plans.model,
        plans.model_version,
        changes.changed_at + interval '10 minutes' as counted_from,
        plans.traffic / nullif(plans.traffic + plans.champion_traffic, 0)
            as planned_share,
        coalesce(sum(case
            when
                panes.variant = 'canary' and panes.model_version = plans.model_version
                then panes.inferences
        end), 0)::bigint as predictions,
        coalesce(sum(case
            when
                panes.variant = 'champion'
                and panes.model_version = plans.champion_model_version
                then panes.inferences
        end), 0)::bigint as champion_predictions
    from plans
    inner join changes on plans.model = changes.model
    left join {{ ref('request_panes') }} as panes
        on
            plans.model = panes.model
            and panes.grain = '1 hour'
            and changes.changed_at + interval '10 minutes' <= panes.pane_start
    where plans.variant = 'canary' and plans.champion_model_version is not null
    group by
        plans.model, plans.model_version, plans.traffic, plans.champion_traffic,
        changes.changed_at
),

{%- set facts = [
    'model', 'model_version', 'predictions', 'champion_predictions', 'planned_share'
] %}

groups as (
    select
        {%- for fact in facts %}
        counted.{{ fact }},
        {%- endfor %}
        panes.unit_group,
        sum(panes.predictions)::double precision as of_group,
        sum(panes.known) as known
    from counted
    left join {{ ref('canary_unit_panes') }} as panes
        on
            counted.model = panes.model
            and counted.model_version = panes.model_version
            and counted.counted_from <= panes.pane_start
    group by
        {%- for fact in facts %}
        counted.{{ fact }},
        {%- endfor %}
        panes.unit_group
),

units as (
    select
        {%- for fact in facts %}
        {{ fact }},
        {%- endfor %}
        {{ design_effect_of_count('of_group', 'known') }} as design_effect
    from groups
    group by {{ facts | join(', ') }}
)

select
    model,
    model_version,
    predictions,
    champion_predictions,
    planned_share,
    predictions::double precision / nullif(predictions + champion_predictions, 0)
        as share,
    design_effect,
    {{ planned_share_p_value(
        'predictions / nullif(design_effect, 0)',
        '(predictions + champion_predictions) / nullif(design_effect, 0)',
        'planned_share'
    ) }} as share_p_value
from units
