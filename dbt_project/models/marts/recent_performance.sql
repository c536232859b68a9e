-- How good a model has been lately, on labels in the order in which they became known: its champion
-- while that serves, else all versions as one. What it explored or held out says nothing of it.
-- The labels of one prediction may come months after it: what is known now is what triggers go by.
-- A default_label is known when its label window closes.
-- grain: model.  key: model.
-- lateness: any; the window is the metric_window before the model's clock, in whole hours.
with models as (
    select
        clock.model,
        champion.model_version,
        {%- for name in label_columns() %}
        positive.{{ name }},
        {%- endfor %}
        {{ metric_number('baseline_auc', 'champion.metrics') }} as baseline_auc,
        {{ pane_start('1 hour', '(clock.event_clock - policies.metric_window)') }}
            as first_pane,
        clock.event_clock
    from {{ watched_models() }}
    inner join {{ labels_told() }} as positive on clock.model = positive.model
),

known as (
    select
        panes.model,
        models.positive_label,
        models.score_of,
        models.task,
        {%- for name in classified_columns() %}
        panes.{{ name }}{{ ',' if not loop.last }}
        {%- endfor %}
    from models
    inner join {{ ref('label_panes') }} as panes
        on
            models.model = panes.model
            and models.first_pane <= panes.pane_start
            and models.event_clock >= panes.pane_start
            and coalesce(models.model_version, panes.model_version)
            = panes.model_version
    where
        panes.clock = 'label'
        and panes.grain = '1 hour'
        and {{ is_own_choice('panes') }}
),

{{ classification('recent', 'known', ['model']) }},

class_rows as (
    select
        panes.model,
        panes.class,
        panes.is_label,
        panes.examples,
        panes.counts
    from models
    inner join {{ ref('class_panes') }} as panes
        on
            models.model = panes.model
            and models.first_pane <= panes.pane_start
            and models.event_clock >= panes.pane_start
            and coalesce(models.model_version, panes.model_version)
            = panes.model_version
    where
        panes.clock = 'label'
        and {{ is_own_choice('panes') }}
),

{{ class_areas('areas', 'class_rows', ['model']) }},

{{ macro_area('area', 'areas', ['model']) }},

measured as (
    select
        models.model,
        {{ macro_auc_columns('area', 'models.task') }},
        case when models.task = 'classification' then area.macro_auc_stderr end
            as macro_auc_stderr
    from models
    left join area on models.model = area.model
)

select
    models.model,
    models.model_version,
    models.first_pane as window_start,
    models.event_clock as window_end,
    models.baseline_auc,
    coalesce(recent.labeled, 0) as labeled,
    case when models.positive_label is not null then coalesce(recent.positives, 0) end
        as positives,
    {%- for metric in [
        'accuracy', 'accuracy_stderr', 'precision', 'recall', 'f1', 'macro_f1', 'auc',
        'auc_error', 'auc_stderr', 'fewer_of_classes', 'log_loss', 'brier',
        'calibration_error', 'rmse', 'rmse_stderr', 'mae', 'mae_stderr', 'mean_reward',
        'mean_reward_stderr'
    ] %}
    recent.{{ metric }},
    {%- endfor %}
    measured.macro_auc,
    measured.macro_auc_error,
    measured.macro_auc_stderr,
    measured.macro_auc_null_because,
    coalesce(measured.macro_auc, recent.auc) as compared_auc,
    {%- for name in label_columns() %}
    models.{{ name }}{{ ',' if not loop.last }}
    {%- endfor %}
from models
inner join measured on models.model = measured.model
left join recent on models.model = recent.model
