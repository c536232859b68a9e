-- The rewards of each canary's labels beside those of its champion, over the predictions given
-- since the canary began. canary_verdict judges them.
-- Silence counts as the default_label (macros/pane/silence.sql). The hour in which a canary began is
-- read by the minute while minute panes are kept, else whole.
-- grain: canary version with labels on either side.  key: (model, model_version).
-- lateness: any; a late label or a revision counts for the prediction that it is about.
with {{ canary_sides() }},

spans as (
    {{ label_spans('sides', ['model', 'model_version', 'side_version', 'variant']) }}
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
    union all
    select
        model,
        tested_version as model_version,
        variant = 'champion' as is_base,
        examples,
        reward,
        reward_squared
    from (
        {{ silence(
            'spans', ['model', 'model_version as tested_version'],
            'spans.side_version = panes.model_version and spans.variant = panes.variant'
        ) }}
    ) as silent
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
