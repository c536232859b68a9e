-- How often what a score is the probability of came true, by bins of the score: of late (recent), and
-- when the champion began to serve (reference). calibration_drift compares both.
-- The reference is the 30 days of labels from the champion's promotion on, or from the model's first
-- prediction where all its versions count as one; the recent window is the metric_window before the
-- model's clock. They never overlap, and both are in the order in which labels became known. What was
-- explored or held out says nothing of a score.
-- Up to ten bins share the scores of both classes evenly, fewer where a class has few: 20 rows for each
-- bin, on each side. A score stands for the middle of its score_bin.
-- grain: bin of a model.  key: (model, bin).
-- lateness: any; both windows are in whole hours.
{%- set span = [
    'model', 'model_version', 'reference_start', 'window_start', 'event_clock'
] %}
with spans as (
    select
        clock.model,
        champion.model_version,
        positive.positive_label,
        positive.score_of,
        positive.task,
        {{ pane_start(
            '1 hour', 'coalesce(champion.promoted_at, clock.first_event_time)'
        ) }} as reference_start,
        {{ pane_start('1 hour', '(clock.event_clock - policies.metric_window)') }}
            as window_start,
        clock.event_clock
    from {{ watched_models() }}
    inner join {{ ref('positive_labels') }} as positive on clock.model = positive.model
),

known as (
    select
        {%- for column in span %}
        spans.{{ column }},
        {%- endfor %}
        panes.pane_start >= spans.window_start as is_recent,
        spans.positive_label,
        spans.score_of,
        {{ judged_label('panes', 'spans.task') }} as label,
        {{ judged_prediction('panes', 'spans.task') }} as prediction,
        panes.counts
    from spans
    inner join {{ ref('label_panes') }} as panes
        on
            spans.model = panes.model
            and spans.event_clock >= panes.pane_start
            and coalesce(spans.model_version, panes.model_version) = panes.model_version
    where
        panes.clock = 'label'
        and panes.grain = '1 hour'
        and {{ is_own_choice('panes') }}
        and spans.reference_start <= panes.pane_start
        and (
            spans.reference_start + interval '720 hours' > panes.pane_start
            or spans.window_start <= panes.pane_start
        )
),

outcomes as (
    select
        {{ span | join(', ') }},
        is_recent,
        {{ came_true() }} as is_true,
        counts
    from known
    where {{ is_score_judged() }}
),

scores as (
    {{ opened_blocks(
        'outcomes', span + ['is_recent', 'is_true'], score_block(), block='0'
    ) }}
),

scored as (
    select
        {{ span | join(', ') }},
        {{ score_value('bin') }} as score,
        {%- for side, is_side in [
            ('reference', 'not is_recent'), ('recent', 'is_recent')
        ] %}
        coalesce(sum(predictions) filter (where {{ is_side }}), 0) as {{ side }}_rows,
        coalesce(sum(predictions) filter (where {{ is_side }} and is_true), 0)
            as {{ side }}_true{{ ',' if not loop.last }}
        {%- endfor %}
    from scores
    group by {{ span | join(', ') }}, bin
),

ranked as (
    select
        *,
        {%- for name, rows in [
            ('true', 'reference_true + recent_true'),
            ('false', 'reference_rows - reference_true + recent_rows - recent_true')
        ] %}
        sum({{ rows }}) over up_to as {{ name }}_up_to,
        sum({{ rows }}) over of_model as {{ name }}_of_model,
        {{ rows }} as {{ name }}_here,
        {%- endfor %}
        least(
            {%- for side in ['reference', 'recent'] %}
            sum({{ side }}_true) over of_model,
            sum({{ side }}_rows - {{ side }}_true) over of_model
            {{- ',' if not loop.last }}
            {%- endfor %}
        ) as fewest
    from scored
    window
        of_model as (
            partition by model
            order by score
            rows between unbounded preceding and unbounded following
        ),
        up_to as (
            partition by model
            order by score
            rows between unbounded preceding and current row
        )
),

binned as (
    select
        *,
        1 + floor(
            greatest(least(floor(fewest / 20), 10), 1)
            * (
                (true_up_to - true_here / 2.0) / greatest(true_of_model, 1)
                + (false_up_to - false_here / 2.0) / greatest(false_of_model, 1)
            ) / 2.0
        )::integer as bin
    from ranked
)

select
    model,
    model_version,
    bin,
    min(score) as lowest_score,
    max(score) as highest_score,
    {%- for side in ['reference', 'recent'] %}
    sum({{ side }}_rows)::bigint as {{ side }}_rows,
    sum({{ side }}_true)::bigint as {{ side }}_true,
    sum({{ side }}_rows * score)
    / nullif(sum({{ side }}_rows), 0)::double precision as {{ side }}_score,
    sum({{ side }}_true)::double precision
    / nullif(sum({{ side }}_rows), 0)::double precision as {{ side }}_rate,
    {%- endfor %}
    reference_start,
    least(reference_start + interval '720 hours', window_start) as reference_end,
    window_start,
    event_clock as window_end
from binned
group by {{ span | join(', ') }}, bin
