-- How good each version was on each class: which class suffers, and is it missed or overused?
-- The last 30 days behind the model's clock, from class_confusion.
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
)

select
    -- ids
    model,
    model_version,
    variant,
    class,
    -- counts
    labeled,
    predicted,
    correct,
    -- metrics
    correct::double precision / nullif(predicted, 0) as precision,
    correct::double precision / nullif(labeled, 0) as recall,
    2 * correct::double precision / nullif(labeled + predicted, 0) as f1,
    {{ wilson_low('correct', 'labeled') }} as recall_low,
    {{ wilson_high('correct', 'labeled') }} as recall_high
from counted
