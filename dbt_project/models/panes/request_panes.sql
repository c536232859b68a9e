-- Requests and their errors: a narrow pane for the views that only count predictions.
-- grain: pane of 10 seconds or 1 hour by version and variant.
-- key: all but the measures.  lateness: any.
{{ config(
    key=['model', 'grain', 'pane_start', 'model_version', 'variant'],
    deltas=['events.inference'],
    retention={'10 seconds': '2 days', '1 hour': '400 days'}
) }}

with fine as (
    select
        model,
        {{ pane_start('10 seconds', 'event_time') }} as pane_start,
        model_version,
        variant,
        count(*) as inferences,
        count(error) as errors
    from {{ ref('stg_inference') }}
    group by 1, 2, 3, 4
)

{%- for grain in ['10 seconds', '1 hour'] %}
{%- if not loop.first %}
union all
{%- endif %}
select
    '{{ grain }}' as grain,
    {{ pane_start(grain, 'pane_start') }} as pane_start,
    model,
    model_version,
    variant,
    sum(inferences)::bigint as inferences,
    sum(errors)::bigint as errors
from fine
group by 2, 3, 4, 5
{%- endfor %}
