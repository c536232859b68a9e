"""What `make bench` asks of the marts is a query of each of them."""

from __future__ import annotations

from benchmarks.views import QUERIES, queries
from headrace.engine import Engine


def test_every_mart_is_asked(engine: Engine) -> None:
    asked = queries(engine)
    assert QUERIES.keys() <= asked.keys()
    for query in asked.values():
        engine.rows(query)
