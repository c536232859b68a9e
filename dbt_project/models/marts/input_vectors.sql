-- Vectors of recent inputs: what a frozen encoder makes of their texts, of unit length. Those of one
-- base compare; headrace.nearest_inputs finds the nearest ones of a vector.
-- How many there are is the policy embed_inputs, how long they are kept vector_retention. Empty on
-- RisingWave.
-- grain: input of a request.  key: (request_id, model, base).
-- lateness: seconds; a vector comes after its inference.
select
    vectors.request_id,
    vectors.model,
    vectors.base,
    vectors.event_time,
    vectors.embedded_at,
    vectors.embedding
from {{ source('events', 'input_vectors') }} as vectors
