-- Which inputs mean much the same as the latest one that was answered wrong, and what is right of them?
with mistakes as (
    select
        examples.model,
        examples.request_id,
        vectors.base,
        vectors.embedding
    from headrace.labeled_examples as examples
    inner join headrace.input_vectors as vectors
        on examples.model = vectors.model and examples.request_id = vectors.request_id
    where lower(examples.prediction) != lower(examples.label)
    order by examples.known_at desc
    limit 1
)

select
    mistakes.request_id as mistake,
    near.request_id,
    near.distance,
    examples.prediction,
    examples.label
from mistakes
cross join lateral headrace.nearest_inputs(
    mistakes.model, mistakes.base, mistakes.embedding, 11
) as near
left join headrace.labeled_examples as examples
    on mistakes.model = examples.model and near.request_id = examples.request_id
where near.request_id != mistakes.request_id
order by near.distance
