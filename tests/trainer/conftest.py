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


@pytest.fixture(scope="session")
def undecided(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A language model that says "lamp red" in three of ten answers, "red lamp" in the others."""
    from tests.support.language_models import descriptions, make_base

    folder = tmp_path_factory.mktemp("base")
    return make_base(folder, descriptions(640, 0, first=0.3), steps=200)
