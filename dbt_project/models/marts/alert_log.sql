-- Every alert that fired while a trainer looked, once a minute.
-- grain: alert from its start to its end.  key: (model, alert, subject, since).
-- lateness: none; an alert that fires again after it cleared is another one.
select
    model,
    alert,
    subject,
    severity,
    since,
    last_seen_at,
    cleared_at
from {{ source('control', 'alert_log') }}
