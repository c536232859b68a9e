-- What each version took each class for: how often it predicted which class where which was right.
-- The last 30 days behind the model's clock, by the hour of the prediction. Only labels count, no
-- rewards, and only models whose task is classification.
-- grain: label and prediction of a version.
-- key: (model, model_version, variant, label, prediction).
-- lateness: any; a late label or a revision counts for the prediction that it is about.
select
    panes.model,
    panes.model_version,
    panes.variant,
    panes.label,
    panes.prediction,
    sum(panes.examples)::bigint as examples
from {{ ref('model_clock') }} as clock
inner join {{ ref('model_tasks') }} as tasks on clock.model = tasks.model
inner join {{ ref('label_panes') }} as panes
    on
        clock.model = panes.model
        and clock.event_clock - interval '720 hours' < panes.pane_start
where
    tasks.task = 'classification'
    and panes.clock = 'inference'
    and panes.grain = '1 hour'
    and panes.label is not null
    and panes.prediction is not null
group by
    panes.model, panes.model_version, panes.variant, panes.label, panes.prediction
having sum(panes.examples) > 0
