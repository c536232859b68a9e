-- Is anything wrong with what comes in, and what was refused?
select
    'alert: ' || alert as what,
    model || ' ' || subject as about,
    round(value::numeric, 3)::text as measured,
    state as status
from headrace.alerts
union all
select
    'refused: ' || topic as what,
    field as about,
    count(*)::text as measured,
    min(reason) as status
from headrace.rejected_events
group by topic, field
order by what, about;
