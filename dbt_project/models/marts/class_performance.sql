-- How good each version was on each class: which class suffers, and is it missed or overused?
-- The last 30 days behind the model's clock, from class_confusion; the AUC from class_panes.
-- grain: class of a version, predicted or right.  key: (model, model_version, variant, class).
-- lateness: as class_confusion.
with sides as (
    select
        model,
        model_version,
        variant,
        label as class,
        examples as labeled,
        0::bigint as predicted,
        case when label = prediction then examples else 0 end as correct
    from {{ ref('class_confusion') }}
    union all
    select
        model,
        model_version,
        variant,
        prediction as class,
        0::bigint as labeled,
        examples as predicted,
        0::bigint as correct
    from {{ ref('class_confusion') }}
),

counted as (
    select
        model,
        model_version,
        variant,
        class,
        sum(labeled)::bigint as labeled,
        sum(predicted)::bigint as predicted,
        sum(correct)::bigint as correct
    from sides
    group by model, model_version, variant, class
),

class_rows as (
    select panes.*
    from {{ ref('model_clock') }} as clock
    inner join {{ ref('class_panes') }} as panes
        on
            clock.model = panes.model
            and clock.event_clock - interval '720 hours' < panes.pane_start
    where panes.clock = 'inference'
),

{{ class_areas('areas', 'class_rows', ['model', 'model_version', 'variant']) }}

select
    -- ids
    counted.model,
    counted.model_version,
    counted.variant,
    counted.class,
    -- counts
    counted.labeled,
    counted.predicted,
    counted.correct,
    -- metrics
    {%- set correct, labeled = 'counted.correct', 'counted.labeled' %}
    {{ correct }}::double precision / nullif(counted.predicted, 0) as precision,
    {{ correct }}::double precision / nullif({{ labeled }}, 0) as recall,
    2 * {{ correct }}::double precision / nullif({{ labeled }} + counted.predicted, 0)
        as f1,
    {{ wilson_low(correct, labeled) }} as recall_low,
    {{ wilson_high(correct, labeled) }} as recall_high,
    areas.auc,
    areas.auc_error
from counted
left join areas
    on
        counted.model = areas.model
        and counted.model_version = areas.model_version
        and counted.variant = areas.variant
        and counted.class = areas.class
