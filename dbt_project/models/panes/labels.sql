-- The label of each prediction (macro chosen_labels): what was said, by the rules of
-- control.label_policies, or the default_label once the label window has closed in silence.
-- Feedback on a prediction, and silence, also labels its shadow predictions.
-- grain: labelled inference.  key: (request_id, model, item_id).
-- lateness: any; later feedback, a revision or a changed policy replaces the label, a retraction may
-- take it back.
-- depends_on: {{ ref('answered_again') }}, {{ ref('waiting_feedback') }}
{{ config(
    key=['request_id', 'model', 'item_id'],
    recompute={
        'events.inference': '
            select n.request_id from new_rows as n
            where ' ~ has_feedback() ~ '
            union all
            select n.request_id from new_rows as n
            where n.shadow_of is not null and exists (
                select from events.feedback as f where f.request_id = n.shadow_of
            )
            union all ' ~ closed_predictions(),
        'events.feedback': '
            select request_id from new_rows
            union all
            select i.request_id from new_rows as n
            inner join events.inference as i on i.shadow_of = n.request_id',
        'panes.clocks': closing_predictions(),
        'control.policies': repoliced_predictions(),
        'control.label_policies': "
            select request_id from panes.labels where kind != 'default'",
    },
    deletes=['control.policies', 'events.feedback'],
    indexes=[
        ['model', 'arrived_at'],
        ['model', 'user_id', 'settled_at'],
        {
            'columns': ['model', 'session_id', 'settled_at'],
            'where': 'session_id is not null',
        },
        ['model', 'inference_time'],
        ['model', 'md5(request_id)'],
    ]
) }}

{{ chosen_labels(
    ref('stg_inference'), ref('stg_feedback'), source('control', 'label_policies'),
    ref('default_labels')
) }}
