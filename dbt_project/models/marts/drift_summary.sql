-- Which kind of drift a model is in, by what has moved: its inputs (covariate drift; texts count as
-- features), the mix of labels (label drift), or what is right for the same input (concept drift:
-- its error rises). The output, be it a text, moves with all three.
-- grain: model.  key: model.  lateness: any; as of the five views that it reads.
with features as (
    select
        model,
        feature,
        psi_excess,
        status
    from {{ ref('feature_psi') }}
    union all
    select
        model,
        field as feature,
        psi_excess,
        status
    from {{ ref('text_drift') }}
    where field != 'output'
),

inputs as (
    select
        model,
        count(*) as features,
        count(*) filter (where status = 'drifted') as drifted_features,
        count(*) filter (where status not in ('too few rows', 'identifier')) as told
    from features
    group by model
),

ranked as (
    select
        model,
        feature,
        psi_excess,
        row_number() over (
            partition by model
            order by psi_excess desc, feature asc
        ) as place
    from features
    where status = 'drifted'
),

answers as (
    select
        model,
        psi_excess,
        status
    from {{ ref('prediction_drift') }}
    union all
    select
        model,
        psi_excess,
        status
    from {{ ref('text_drift') }}
    where field = 'output'
),

outputs as (
    select
        model,
        count(*) filter (where status in ('drifted', 'halt')) as drifted,
        count(*) filter (where status != 'too few rows') as told,
        max(psi_excess) filter (where status in ('drifted', 'halt')) as psi_excess
    from answers
    group by model
),

facts as (
    select
        clock.model,
        clock.event_clock,
        ranked.feature as worst_feature,
        ranked.psi_excess as worst_psi,
        labels.psi_excess as label_psi,
        outputs.psi_excess as output_psi,
        concepts.onset,
        concepts.drifted_since,
        coalesce(inputs.features, 0) as features,
        coalesce(inputs.drifted_features, 0) as drifted_features,
        coalesce(inputs.drifted_features, 0) > 0 as covariate_drift,
        coalesce(labels.status = 'drifted', false) as label_drift,
        coalesce(concepts.status = 'drifted', false) as concept_drift,
        coalesce(outputs.drifted, 0) > 0 as output_drift,
        coalesce(inputs.told, 0) > 0
        or coalesce(outputs.told, 0) > 0
        or coalesce(labels.status != 'too few rows', false)
        or coalesce(concepts.status != 'too few rows', false) as is_told
    from {{ ref('model_clock') }} as clock
    left join inputs on clock.model = inputs.model
    left join ranked on clock.model = ranked.model and ranked.place = 1
    left join outputs on clock.model = outputs.model
    left join {{ ref('label_drift') }} as labels on clock.model = labels.model
    left join {{ ref('concept_drift') }} as concepts on clock.model = concepts.model
),

named as (
    select
        *,
        coalesce(nullif(concat_ws(
            '+',
            case when covariate_drift then 'covariate' end,
            case when label_drift then 'label' end,
            case when concept_drift then 'concept' end
        ), ''), 'none') as drift
    from facts
)

select
    model,
    drift,
    covariate_drift,
    label_drift,
    concept_drift,
    output_drift,
    drifted_features,
    concat_ws(
        '; ',
        case
            when not is_told then 'too few rows to tell'
            when concept_drift and covariate_drift
                then 'inputs have moved to where the model errs'
            when concept_drift then 'the same inputs have come to mean something else'
            when covariate_drift and label_drift
                then 'inputs and labels have moved, the model has kept up so far'
            when covariate_drift then 'inputs have moved, the error has not so far'
            when label_drift then 'labels are mixed otherwise, the error has not risen'
            when output_drift then 'the output has moved, and neither inputs nor labels'
            else 'nothing has moved'
        end,
        case when covariate_drift then
            drifted_features || ' of ' || features || ' features, most of all '
            || worst_feature || ' (psi ' || {{ with_decimals('worst_psi', 2) }} || ')'
        end,
        case when label_drift then
            'labels (psi ' || {{ with_decimals('label_psi', 2) }} || ')'
        end,
        case when concept_drift then
            'error ' || case onset
                when 'sudden' then 'suddenly' else 'gradually'
            end
            || ' up since ' || {{ utc_text('drifted_since') }}
            || ' UTC'
        end,
        case when output_drift then
            'output (psi ' || {{ with_decimals('output_psi', 2) }} || ')'
        end
    ) as explanation,
    event_clock
from named
