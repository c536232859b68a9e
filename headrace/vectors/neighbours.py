"""The inputs that are nearest to a text, or to the input of a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from headrace.engine import Engine
from headrace.errors import ContractError
from headrace.vectors.bases import embedder_of


@dataclass(frozen=True, slots=True)
class Vector:
    """A vector as the database takes it, and the base that made it."""

    base: str
    text: str


def vector_of_text(engine: Engine, model: str, text: str) -> Vector:
    """Return what a model's base makes of a text; the first call loads the base.

    Raises:
        ContractError: the model has no vectors of that base.
        ModelError: the base cannot be loaded.
    """
    embedder = embedder_of(engine.settings, model)
    (found,) = engine.rows(
        "select exists (select from headrace.input_vectors where model = %s and base = %s) as any",
        [model, embedder.name],
    )
    if not found["any"]:
        raise ContractError("model", "one whose inputs have vectors (policy embed_inputs)", model)
    (vector,) = embedder.vectors([text])
    return Vector(embedder.name, str(vector.tolist()))


def vector_of_request(engine: Engine, model: str, request_id: str) -> Vector:
    """Return the vector of the input of a request, the newest where several bases made one.

    Raises:
        ContractError: it has none.
    """
    found = engine.rows(
        "select base, embedding::text as text from headrace.input_vectors "
        "where model = %s and request_id = %s order by embedded_at desc limit 1",
        [model, request_id],
    )
    if not found:
        allowed = "a request of the model whose input has a vector (policy embed_inputs)"
        raise ContractError("request_id", allowed, request_id)
    return Vector(**found[0])


def nearest(
    engine: Engine, model: str, vector: Vector, most: int, without: str | None = None
) -> list[dict[str, Any]]:
    """Return the nearest inputs of a model, nearest first, `without` that of one request.

    Each has request_id, event_time, distance (cosine, from 0 to 2), and the label of its
    prediction, None where that is not known or the request has several.
    """
    found = engine.rows(
        _NEAREST,
        {"model": model, "base": vector.base, "vector": vector.text, "most": most + 1},
    )
    return [row for row in found if row["request_id"] != without][:most]


_NEAREST = """
select
    near.request_id,
    near.event_time,
    near.distance,
    (
        select case when count(*) = 1 then min(labels.label) end
        from panes.labels as labels
        where labels.request_id = near.request_id and labels.model = %(model)s
    ) as label
from headrace.nearest_inputs(
    %(model)s, %(base)s, %(vector)s::halfvec, %(most)s::integer
) as near
order by near.distance
"""
