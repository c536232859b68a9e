-- How good the champion has been lately, on labels in the order in which they became known.
-- The labels of one answer may come months after it: what is known now is what triggers go by.
-- grain: model that has a champion.  key: model.
-- lateness: any; the window is the metric_window before the model's clock, in whole hours.
with champion as (
    select
        versions.model,
        versions.model_version,
        positive.positive_label,
        {{ metric_number('baseline_auc', 'versions.metrics') }} as baseline_auc,
        {{ pane_start('1 hour', '(clock.event_clock - policies.metric_window)') }}
            as first_pane,
        clock.event_clock
    from {{ ref('model_versions') }} as versions
    inner join {{ ref('model_clock') }} as clock on versions.model = clock.model
    inner join
        {{ ref('model_policies') }} as policies
    on versions.model = policies.model
    inner join
        {{ ref('positive_labels') }} as positive
    on versions.model = positive.model
    where versions.status = 'champion'
),

known as (
    select
        panes.*,
        champion.positive_label
    from champion
    inner join {{ ref('label_panes') }} as panes
        on
            champion.model = panes.model
            and champion.model_version = panes.model_version
            and champion.first_pane <= panes.pane_start
    where
        panes.clock = 'label'
        and panes.grain = '1 hour'
        and panes.variant != 'shadow'
),

{{ classification('recent', 'known', ['model']) }}

select
    champion.model,
    champion.model_version,
    champion.first_pane as window_start,
    champion.event_clock as window_end,
    champion.baseline_auc,
    coalesce(recent.labeled, 0) as labeled,
    coalesce(recent.positives, 0) as positives,
    {%- for metric in [
        'accuracy', 'precision', 'recall', 'f1', 'macro_f1', 'auc', 'auc_error',
        'log_loss', 'brier', 'calibration_error', 'rmse', 'mae', 'mean_reward'
    ] %}
    recent.{{ metric }}{{ ',' if not loop.last }}
    {%- endfor %}
from champion
left join recent on champion.model = recent.model
