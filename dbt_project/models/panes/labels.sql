-- The label of each prediction, chosen from all feedback on it by the rules of
-- control.label_policies (macro chosen_labels). Feedback on a prediction also labels its shadow
-- predictions.
-- grain: labelled inference.  key: request_id.
-- lateness: any; a revision or a changed policy replaces the label, a retraction may take it back.
-- depends_on: {{ ref('waiting_feedback') }}
{{ config(
    key=['request_id'],
    recompute={
        'events.inference': '
            select n.request_id from new_rows as n
            inner join panes.waiting_feedback as w on w.awaited_id = n.request_id
            union all
            select n.request_id from new_rows as n
            where n.shadow_of is not null and exists (
                select from events.feedback as f where f.request_id = n.shadow_of
            )',
        'events.feedback': '
            select request_id from new_rows
            union all
            select i.request_id from new_rows as n
            inner join events.inference as i on i.shadow_of = n.request_id',
        'control.label_policies': 'select request_id from panes.labels',
    },
    deletes={
        'events.feedback': '
            select request_id from new_rows where retracts is not null
            union all
            select i.request_id from new_rows as n
            inner join events.inference as i on i.shadow_of = n.request_id
            where n.retracts is not null',
    },
    indexes=[['model', 'ingested_at'], ['model', 'user_id', 'known_at']],
    retention='400 days',
    time_column='inference_time'
) }}

{{ chosen_labels() }}
