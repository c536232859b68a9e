-- The rewards of each canary's labels beside those of its champion, over the predictions given
-- since the canary began. canary_verdict judges them.
-- The hour in which a canary began is read by the minute while minute panes are kept, else whole.
-- grain: canary version with labels on either side.  key: (model, model_version).
-- lateness: any; a late label or a revision counts for the prediction that it is about.
with {{ canary_sides() }},

spans as (
    select
        *,
        '1 hour' as grain,
        start_hour as span_start,
        event_clock + interval '1 second' as span_end
    from sides
    union all
    select
        *,
        '1 minute' as grain,
        first_minute as span_start,
        start_hour as span_end
    from sides
    where first_minute is not null
),

label_rows as (
    select
        spans.model,
        spans.model_version,
        spans.variant = 'champion' as is_base,
        panes.examples,
        panes.reward,
        panes.reward_squared
    from spans
    inner join {{ ref('label_panes') }} as panes
        on
            spans.model = panes.model
            and spans.grain = panes.grain
            and spans.side_version = panes.model_version
            and spans.variant = panes.variant
            and spans.span_start <= panes.pane_start
            and spans.span_end > panes.pane_start
    where panes.clock = 'inference' and panes.examples != 0
),

{{ compared_rewards(
    'compared', 'label_rows', ['model', 'model_version'], 'champion'
) }}

select
    model,
    model_version,
    labels,
    champion_labels,
    measure,
    mean_reward,
    mean_reward_low,
    mean_reward_high,
    champion_mean_reward,
    champion_mean_reward_low,
    champion_mean_reward_high,
    difference,
    difference_low,
    difference_high,
    z,
    p_value,
    always_valid_p_value
from compared
