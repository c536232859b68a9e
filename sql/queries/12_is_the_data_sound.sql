-- Is anything wrong with the data, which events were refused, and which ids conflict?
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
union all
select
    'kept out: ' || topic as what,
    differing as about,
    sum(times)::text as measured,
    min(event_id) as status
from headrace.conflicting_events
group by topic, differing
order by what, about;
