-- Volume, errors and sums of what came out.
-- grain: pane of 10 seconds or 1 hour by version, variant and segment.  lateness: any.
{{ config(
    key=['model', 'grain', 'pane_start', 'model_version', 'variant', 'segment'],
    drivers=['events.inference']
) }}

{%- for grain in ['10 seconds', '1 hour'] %}
{%- if not loop.first %}
union all
{%- endif %}
select
    '{{ grain }}' as grain,
    {{ pane_start(grain, 'event_time') }} as pane_start,
    model,
    model_version,
    variant,
    segment,
    count(*) as inferences,
    count(error) as errors,
    count(score) as scored,
    coalesce(sum({{ micro('score') }}), 0)::bigint as score_micro
from {{ ref('stg_inference') }}
group by 2, 3, 4, 5, 6
{%- endfor %}
