-- When labels arrived, by the engine's clock, and when label windows closed upon them, by the
-- model's: tells how many are new since a given time. Shadow predictions are not trained on and are
-- left out.
-- grain: minute in which the engine had the prediction and was first told this label of it, and
-- minute in which its label window closed, where it counts from there on.
-- key: (model, pane_start, closed_start).
-- lateness: any; a label that is said again does not arrive anew, another one does.
{{ config(
    key=['model', 'pane_start', 'closed_start'],
    deltas=['panes.labels'],
    indexes=[['model', 'closed_start']]
) }}

select
    model,
    {{ pane_start('1 minute', 'arrived_at') }} as pane_start,
    case
        when kind = 'default' or settled_at > known_at
            then {{ pane_start('1 minute', 'settled_at') }}
    end as closed_start,
    count(*) as labels,
    count(case when {{ is_reward() }} then 1 end) as rewards
from {{ ref('labels') }}
where variant != 'shadow' and settled_at is not null
group by 1, 2, 3
