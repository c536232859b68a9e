-- How good a model is in each segment: what recent_performance says of all, over 30 days, since a
-- segment has few labels. Its champion while that serves, else all versions as one; what it explored
-- or held out says nothing of it. Of a model the 50 segments with most labels; `segments` says how many
-- there are.
-- grain: segment of a model.  key: (model, segment).
-- lateness: any; the window is the 30 days before the model's clock, in the order in which labels became
-- known, in whole hours.
with models as (
    select
        clock.model,
        champion.model_version,
        positive.positive_label,
        positive.score_of,
        positive.task,
        {{ pane_start('1 hour', "(clock.event_clock - interval '720 hours')") }}
            as first_pane,
        clock.event_clock
    from {{ watched_models() }}
    inner join {{ labels_told() }} as positive on clock.model = positive.model
),

known {{ as_materialized() }} (
    select
        panes.model,
        panes.segment,
        models.model_version,
        models.positive_label,
        models.score_of,
        models.task,
        {%- for name in classified_columns() %}
        panes.{{ name }},
        {%- endfor %}
        models.first_pane,
        models.event_clock
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
        and panes.segment is not null
        and panes.examples != 0
        and {{ is_own_choice('panes') }}
),

sized as (
    select
        model,
        segment,
        max(model_version) as model_version,
        sum(examples) as labels,
        max(first_pane) as window_start,
        max(event_clock) as window_end
    from known
    group by model, segment
),

{{ ranked_segments('ranked', 'sized', 'labels') }},

{{ classification('measured', 'known', ['model', 'segment']) }}

select
    measured.model,
    ranked.model_version,
    measured.segment,
    measured.labeled,
    {%- for metric in [
        'positives', 'accuracy', 'accuracy_stderr', 'precision', 'recall', 'f1', 'macro_f1',
        'auc', 'auc_error', 'auc_stderr', 'log_loss', 'brier', 'calibration_error', 'rmse',
        'rmse_stderr', 'mae', 'mae_stderr', 'mean_reward', 'mean_reward_stderr'
    ] %}
    measured.{{ metric }},
    {%- endfor %}
    ranked.segments,
    ranked.window_start,
    ranked.window_end
from measured
inner join ranked
    on measured.model = ranked.model and measured.segment = ranked.segment
where ranked.place <= {{ most_segments() }}
