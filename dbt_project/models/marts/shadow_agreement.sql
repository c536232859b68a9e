-- How far a shadow version agrees with what was served, and which of the two was right: either
-- one on all labels of its own predictions, the served one as champion or canary.
-- The last 30 days behind the model's clock, by the hour of the shadow's prediction.
-- grain: pair of shadow and served version.  key: (model, shadow_version, served_version).
-- lateness: any; either prediction may come first, and labels follow.
with agreement as (
    select
        panes.model,
        panes.shadow_version,
        panes.served_version,
        sum(panes.predictions)::bigint as predictions,
        sum(panes.compared)::bigint as compared,
        sum(panes.agreed)::bigint as agreed,
        sum(panes.scored)::bigint as scored,
        sum(panes.score_difference_micro)::double precision / 1000000 as difference_sum,
        sum(panes.score_shift_micro)::double precision / 1000000 as shift_sum
    from {{ ref('model_clock') }} as clock
    inner join {{ ref('shadow_panes') }} as panes
        on
            clock.model = panes.model
            and clock.event_clock - interval '720 hours' < panes.pane_start
    group by panes.model, panes.shadow_version, panes.served_version
    having sum(panes.predictions) != 0
),

roles as (
    {%- for side, variant in [
        ('shadow', 'shadow'), ('served', 'champion'), ('served', 'canary')
    ] %}
    {%- if not loop.first %}
    union
    {%- endif %}
    select
        model,
        {{ side }}_version as model_version,
        '{{ variant }}' as variant,
        '{{ side }}' as side
    from agreement
    {%- endfor %}
),

quality as (
    select
        roles.model,
        roles.model_version,
        roles.side,
        sum(panes.examples)::bigint as labels,
        sum(case when panes.label = panes.prediction then panes.examples else 0 end)
        ::bigint as correct
    from roles
    inner join {{ ref('model_clock') }} as clock on roles.model = clock.model
    inner join {{ ref('label_panes') }} as panes
        on
            roles.model = panes.model
            and roles.model_version = panes.model_version
            and roles.variant = panes.variant
            and clock.event_clock - interval '720 hours' < panes.pane_start
    left join {{ ref('model_tasks') }} as tasks on roles.model = tasks.model
    where
        coalesce(tasks.task, 'classification') = 'classification'
        and panes.clock = 'inference'
        and panes.grain = '1 hour'
        and panes.label is not null
        and panes.prediction is not null
    group by roles.model, roles.model_version, roles.side
),

class_rows as (
    select
        roles.side,
        panes.*
    from roles
    inner join {{ ref('model_clock') }} as clock on roles.model = clock.model
    inner join {{ ref('model_tasks') }} as tasks on roles.model = tasks.model
    inner join {{ ref('class_panes') }} as panes
        on
            roles.model = panes.model
            and roles.model_version = panes.model_version
            and roles.variant = panes.variant
            and clock.event_clock - interval '720 hours' < panes.pane_start
    where tasks.task = 'classification' and panes.clock = 'inference'
),

{%- set by = ['model', 'model_version', 'side'] %}
{{ class_areas('areas', 'class_rows', by) }},

{{ macro_area('area', 'areas', by) }}

select
    -- ids
    agreement.model,
    agreement.shadow_version,
    agreement.served_version,
    -- agreement
    agreement.predictions,
    agreement.compared,
    agreement.agreed,
    agreement.agreed::double precision / nullif(agreement.compared, 0)
        as agreement_rate,
    {{ wilson_low('agreement.agreed', 'agreement.compared') }} as agreement_rate_low,
    {{ wilson_high('agreement.agreed', 'agreement.compared') }} as agreement_rate_high,
    agreement.scored,
    agreement.difference_sum / nullif(agreement.scored, 0) as mean_score_difference,
    agreement.shift_sum / nullif(agreement.scored, 0) as mean_score_shift,
    -- quality
    {%- for side in ['shadow', 'served'] %}
    {%- set labels, correct = side ~ '.labels', side ~ '.correct' %}
    coalesce({{ labels }}, 0) as {{ side }}_labels,
    {{ correct }}::double precision / nullif({{ labels }}, 0) as {{ side }}_accuracy,
    {{ wilson_low(correct, labels) }} as {{ side }}_accuracy_low,
    {{ wilson_high(correct, labels) }} as {{ side }}_accuracy_high,
    {{ side }}_area.macro_auc as {{ side }}_macro_auc
    {{- ',' if not loop.last }}
    {%- endfor %}
from agreement
{%- for side in ['shadow', 'served'] %}
{%- for part, alias in [('quality', side), ('area', side ~ '_area')] %}
left join {{ part }} as {{ alias }}
    on
        agreement.model = {{ alias }}.model
        and agreement.{{ side }}_version = {{ alias }}.model_version
        and {{ alias }}.side = '{{ side }}'
{%- endfor %}
{%- endfor %}
