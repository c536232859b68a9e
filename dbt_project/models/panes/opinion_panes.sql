-- Opinions by the time at which they became known: reports by the minute and the hour, feedback with
-- a name by the hour.
-- grain: minute or hour, version, kind and name.  key: all but the measures.
-- lateness: any; an opinion that was changed moves, one that was taken back leaves its row.
{{ config(
    key=['model', 'grain', 'pane_start', 'model_version', 'kind', 'name'],
    deltas=['panes.opinions'],
    retention={'1 minute': '2 days', '1 hour': '400 days'}
) }}

{%- for grain, which in [('1 minute', "kind = 'report'"), ('1 hour', 'true')] %}
{%- if not loop.first %}
union all
{%- endif %}
select
    '{{ grain }}' as grain,
    {{ pane_start(grain, 'known_at') }} as pane_start,
    model,
    model_version,
    kind,
    name,
    count(*) as opinions,
    count(value) as valued,
    coalesce(sum({{ exact('value') }}), 0) as value_sum
from {{ ref('opinions') }}
where {{ which }}
group by 2, 3, 4, 5, 6
{%- endfor %}
