-- Feedback with a name (`metadata.name`), such as one of several scores of a prediction: how many
-- were given of each name, their mean, and the last one. It is shown only; labels and rewards are
-- chosen by control.label_policies, whatever the names.
-- Of each person the last opinion of a name on a prediction counts. The last 30 days behind the
-- model's clock, by the hour in which they became known.
-- grain: name of a model's version.  key: (model, model_version, name).
-- lateness: any; an opinion that was changed or taken back counts no longer.
{%- set newest_first = 'scores.feedback_time desc, scores.feedback_id desc' %}
with spans as (
    select
        panes.model,
        panes.model_version,
        panes.name,
        sum(panes.opinions)::bigint as scores,
        sum(panes.valued)::bigint as valued,
        {{ as_double('sum(panes.value_sum)') }} as value_sum
    from {{ ref('model_clock') }} as clock
    inner join {{ ref('opinion_panes') }} as panes on clock.model = panes.model
    where
        panes.grain = '1 hour'
        and panes.name is not null
        and panes.pane_start > clock.event_clock - interval '720 hours'
    group by panes.model, panes.model_version, panes.name
    having sum(panes.opinions) != 0
)

select
    spans.model,
    spans.model_version,
    spans.name,
    spans.scores,
    spans.value_sum / nullif(spans.valued, 0) as mean_value,
    newest.label as last_label,
    newest.feedback_time as last_feedback_time
from spans
inner join {{ lateral() }} (
    select
        scores.model,
        scores.model_version,
        scores.name,
        scores.label,
        scores.feedback_time,
        row_number() over (
            partition by scores.model, scores.model_version, scores.name
            order by {{ newest_first }}
        ) as place
    from {{ span(['model', 'model_version', 'name']) }} as span
    inner join {{ ref('opinions') }} as scores
        on
            span.model = scores.model
            and span.model_version = scores.model_version
            and span.name = scores.name
    {{ no_more_than(1, newest_first) }}
) as newest
    on
        spans.model = newest.model
        and spans.model_version = newest.model_version
        and spans.name = newest.name
where newest.place = 1
