-- In which segments is the model wrong more often than elsewhere (labels of the last 30 days)?
select
    examples.model,
    examples.segment,
    count(*) as labels,
    round(avg((examples.label = examples.prediction)::integer)::numeric, 3) as accuracy
from headrace.labeled_examples as examples
inner join headrace.model_clock as clock on examples.model = clock.model
where
    examples.prediction is not null
    and examples.kind in ('label', 'correction', 'default')
    and examples.event_time > clock.event_clock - interval '720 hours'
group by examples.model, examples.segment
having count(*) >= 20
order by accuracy
limit 20;
