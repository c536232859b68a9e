-- The rewards and the macro AUC of each canary beside those of its champion, over the predictions given
-- since the canary began, as uncertain as the users that they are for (by whole days).
-- canary_verdict judges them.
-- The reward of a regression is its absolute error, negative. Versions are compared within each day.
-- The hour in which a canary began is read by the minute while minute panes are kept, else whole;
-- for the macro AUC always whole.
-- grain: canary version with labels on either side.  key: (model, model_version).
-- lateness: any; a late label or a revision counts for the prediction that it is about.
with {{ canary_sides() }},

spans as (
    select
        *,
        '1 hour' as grain,
        start_hour as span_start,
        event_clock + interval '1 second' as span_end
    from sides
    union all
    select
        *,
        '1 minute' as grain,
        first_minute as span_start,
        start_hour as span_end
    from sides
    where first_minute is not null
),

label_rows as (
    select
        spans.model,
        spans.model_version,
        spans.variant = 'champion' as is_base,
        policies.canary_alpha as alpha,
        {{ pane_start('1 day', 'panes.pane_start') }} as stratum,
        {%- for column, error in [
            ('examples', 'panes.measured'), ('reward', '-panes.absolute_error'),
            ('reward_squared', 'panes.squared_error')
        ] %}
        case
            when tasks.task = 'regression' then {{ error }} else panes.{{ column }}
        end as {{ column }}{{ ',' if not loop.last }}
        {%- endfor %}
    from spans
    inner join {{ ref('model_policies') }} as policies on spans.model = policies.model
    left join {{ ref('model_tasks') }} as tasks on spans.model = tasks.model
    inner join {{ ref('label_panes') }} as panes
        on
            spans.model = panes.model
            and spans.grain = panes.grain
            and spans.side_version = panes.model_version
            and spans.variant = panes.variant
            and spans.span_start <= panes.pane_start
            and spans.span_end > panes.pane_start
    where panes.clock = 'inference' and panes.examples != 0
),

counted_rows as (
    select * from label_rows
    where examples != 0
),

unit_rows as (
    select
        sides.model,
        sides.model_version,
        sides.variant = 'champion' as is_base,
        panes.pane_start as stratum,
        panes.unit_group,
        {%- for column, error in [
            ('labels', 'panes.measured'), ('known', 'panes.known_measured'),
            ('reward', '-panes.absolute_error'), ('reward_squared', 'panes.squared_error')
        ] %}
        case
            when tasks.task = 'regression' then {{ error }} else panes.{{ column }}
        end as {{ column }}{{ ',' if not loop.last }}
        {%- endfor %}
    from sides
    left join {{ ref('model_tasks') }} as tasks on sides.model = tasks.model
    inner join {{ ref('unit_panes') }} as panes
        on
            sides.model = panes.model
            and sides.side_version = panes.model_version
            and sides.variant = panes.variant
            and {{ pane_start('1 day', 'sides.began_at') }} <= panes.pane_start
),

{{ compared_rewards(
    'compared', 'counted_rows', ['model', 'model_version'], 'champion', 'unit_rows'
) }},

class_rows as (
    select
        sides.model,
        sides.model_version,
        sides.variant,
        panes.class,
        panes.is_label,
        panes.examples,
        panes.counts
    from sides
    inner join {{ ref('model_tasks') }} as tasks on sides.model = tasks.model
    inner join {{ ref('class_panes') }} as panes
        on
            sides.model = panes.model
            and sides.side_version = panes.model_version
            and sides.variant = panes.variant
            and {{ pane_start('1 hour', 'sides.began_at') }} <= panes.pane_start
    where tasks.task = 'classification' and panes.clock = 'inference'
),

{%- set by = ['model', 'model_version', 'variant'] %}
{{ class_areas('areas', 'class_rows', by) }},

{{ macro_area('area', 'areas', by) }}

select
    compared.model,
    compared.model_version,
    compared.labels,
    compared.champion_labels,
    case when tasks.task = 'regression' then 'absolute error' else compared.measure end
        as measure,
    compared.mean_reward,
    compared.mean_reward_low,
    compared.mean_reward_high,
    compared.champion_mean_reward,
    compared.champion_mean_reward_low,
    compared.champion_mean_reward_high,
    compared.unit_groups,
    compared.design_effect,
    compared.difference,
    compared.difference_low,
    compared.difference_high,
    compared.z,
    compared.p_value,
    compared.always_valid_p_value,
    compared.always_valid_low,
    compared.always_valid_high,
    canary.macro_auc,
    champion.macro_auc as champion_macro_auc
from compared
left join {{ ref('model_tasks') }} as tasks on compared.model = tasks.model
{%- for variant in ['canary', 'champion'] %}
left join area as {{ variant }}
    on
        compared.model = {{ variant }}.model
        and compared.model_version = {{ variant }}.model_version
        and {{ variant }}.variant = '{{ variant }}'
{%- endfor %}
