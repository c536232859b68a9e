-- Whether the labels of a model and its predictions are the same classes. Of the labels that became
-- known lately: how many name a class that the model never predicted, and how many are of a
-- prediction that was never a label. data_quality judges them: where that is true of all, the two
-- sides probably write one thing in two ways.
-- Counts pairs of a label and a prediction that are both classes, without shadow predictions.
-- Of a model that predicts more classes than prediction_counts keeps apart, those of a sample of labels.
-- grain: model with such a pair.  key: model.
-- lateness: any; the window is the metric_window before the model's clock, in whole hours.
with spans as (
    select
        clock.model,
        clock.event_clock,
        {{ pane_start('1 hour', '(clock.event_clock - policies.metric_window)') }}
            as first_pane
    from {{ ref('model_clock') }} as clock
    inner join {{ ref('model_policies') }} as policies on clock.model = policies.model
),

judged as (
    select
        panes.model,
        panes.label,
        panes.prediction,
        sum(panes.examples)::bigint as examples
    from spans
    inner join {{ ref('label_panes') }} as panes
        on spans.model = panes.model and spans.first_pane <= panes.pane_start
    where
        panes.clock = 'label'
        and panes.grain = '1 hour'
        and panes.variant != 'shadow'
        and panes.label is not null
        and panes.prediction is not null
        and panes.examples != 0
    group by panes.model, panes.label, panes.prediction
),

{{ category_thresholds(
    'thresholds', ref('prediction_counts'), ['model'], [], 'prediction'
) }}

compared as (
    select
        judged.model,
        sum(judged.examples)::bigint as labels,
        sum(case when predicted.model is null then judged.examples else 0 end)::bigint
            as never_predicted,
        sum(case when labels.model is null then judged.examples else 0 end)::bigint
            as never_labels
    from judged
    left join {{ ref('prediction_counts') }} as predicted
        on judged.model = predicted.model and judged.label = predicted.prediction
    left join {{ ref('label_counts') }} as labels
        on
            judged.model = labels.model
            and judged.prediction = labels.label
            and labels.examples > 0
    {{ join_thresholds('thresholds', 'judged', ['model']) }}
    where {{ compared_category('judged.label', 'thresholds') }} is not null
    group by judged.model
)

select
    spans.model,
    compared.labels,
    compared.never_predicted,
    compared.never_labels,
    spans.first_pane as window_start,
    spans.event_clock as window_end
from spans
inner join compared on spans.model = compared.model
