-- How often shadow versions agree with what was served.
-- grain: hour, shadow and served version, segment.  key: all but the measures.  lateness: any.
{{ config(
    key=['model', 'pane_start', 'shadow_version', 'served_version', 'segment'],
    deltas=['panes.shadow_pairs'],
    retention='400 days'
) }}

select
    model,
    {{ pane_start('1 hour', 'event_time') }} as pane_start,
    shadow_version,
    served_version,
    segment,
    count(*) as predictions,
    count(case
        when shadow_prediction is not null and served_prediction is not null then 1
    end) as compared,
    sum({{ is_right('shadow_prediction', 'served_prediction') }})::bigint as agreed,
    count(shadow_score - served_score) as scored,
    coalesce(sum({{ micro('abs(shadow_score - served_score)') }}), 0)::bigint
        as score_difference_micro,
    coalesce(sum({{ micro('shadow_score - served_score') }}), 0)::bigint
        as score_shift_micro
from {{ ref('shadow_pairs') }}
group by 1, 2, 3, 4, 5
