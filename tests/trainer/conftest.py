"""A model whose learning is handed over, and a claim of it."""

from __future__ import annotations

import pytest

from headrace.control.claims import Claim
from headrace.engine import Engine
from tests.support.promising import make_known, taken


@pytest.fixture
def known_model(engine: Engine) -> None:
    make_known(engine)


@pytest.fixture
def held(engine: Engine, known_model: None) -> Claim:  # noqa: ARG001
    return taken(engine, "first")
