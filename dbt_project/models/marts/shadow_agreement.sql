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
)

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
    {{ wilson_high(correct, labels) }} as {{ side }}_accuracy_high
    {{- ',' if not loop.last }}
    {%- endfor %}
from agreement
left join quality as shadow
    on
        agreement.model = shadow.model
        and agreement.shadow_version = shadow.model_version
        and shadow.side = 'shadow'
left join quality as served
    on
        agreement.model = served.model
        and agreement.served_version = served.model_version
        and served.side = 'served'
