-- What the label of a prediction with a segment was, as far as it was known then: from each moment
-- at which something was said of it, or taken back, until the next one. Shadow predictions are left
-- out.
-- grain: prediction and moment.  key: (request_id, model, item_id, as_of).
-- lateness: any; late feedback changes what was known from its event_time on.
-- depends_on: {{ ref('waiting_feedback') }}
{{ config(
    key=['request_id', 'model', 'item_id', 'as_of'],
    recompute={
        'events.inference': '
            select n.request_id from new_rows as n
            where n.segment is not null and ' ~ has_feedback(),
        'events.feedback': '
            select n.request_id from new_rows as n
            inner join events.inference as i on n.request_id = i.request_id
            where i.segment is not null',
        'control.label_policies': 'select distinct request_id from panes.known_labels',
    },
    deletes=['events.feedback'],
    retention='400 days',
    time_column='as_of'
) }}

{{ chosen_labels(
    ref('stg_inference'), ref('stg_feedback'), source('control', 'label_policies'), as_of=true
) }}
