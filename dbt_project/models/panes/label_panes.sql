-- Labels against predictions and scores: all that AUC, log loss, F1 and calibration need.
-- By the time of the inference (10 seconds, 1 hour) and by the time its label was known (1 hour).
-- grain: pane, label, prediction and score bin.  key: all but the sums.
-- lateness: any; a revised label is taken out of its old row and put into the new one.
{{ config(
    key=[
        'model', 'clock', 'grain', 'pane_start', 'model_version', 'variant', 'segment',
        'label', 'prediction', 'score_bin'
    ],
    drivers=['panes.labels']
) }}

{%- set panes = [
    ('inference', '10 seconds', 'inference_time'),
    ('inference', '1 hour', 'inference_time'),
    ('label', '1 hour', 'known_at')
] %}
{%- for clock, grain, time in panes %}
{%- if not loop.first %}
union all
{%- endif %}
select
    '{{ clock }}' as clock,
    '{{ grain }}' as grain,
    {{ pane_start(grain, time) }} as pane_start,
    model,
    model_version,
    variant,
    segment,
    label,
    prediction,
    {{ score_bin('score') }} as score_bin,
    count(*) as examples,
    coalesce(sum({{ micro(squared('score')) }}), 0)::bigint as score_squared_micro,
    coalesce(sum({{ micro('score') }}), 0)::bigint as score_micro,
    coalesce(sum({{ micro('ln(' ~ clipped('score') ~ ')') }}), 0)::bigint
        as log_score_micro,
    coalesce(sum({{ micro('ln(1 - ' ~ clipped('score') ~ ')') }}), 0)::bigint
        as log_complement_micro
from {{ ref('labels') }}
group by 3, 4, 5, 6, 7, 8, 9, 10
{%- endfor %}
