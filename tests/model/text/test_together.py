"""Versions that share a pass answer as each of them does alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from headrace.errors import ModelError
from headrace.model.corrections import Corrected, input_key
from headrace.model.given import Given
from headrace.model.inputs import Example
from headrace.model.prior import PriorCorrected
from headrace.model.recipe import Predictor
from headrace.model.text import served
from headrace.model.text.graph import LARGEST, Graph, GraphEncoder
from headrace.model.text.lora import Lora
from headrace.model.together import Answers, alone, answering, together
from tests.support.text_versions import WORDS, random_version

EQUAL = 1e-5  # of a probability, in float32
EXAMPLES = st.builds(
    Example,
    st.one_of(
        st.text(max_size=40),
        st.lists(st.sampled_from(WORDS), max_size=90).map(" ".join),
    ),
    features=st.dictionaries(st.sampled_from(["plan", "vip"]), st.sampled_from(["a", True])),
)
LABELS = [("no", "yes"), ("a", "b", "c"), ("yes", "no"), ("only", "one", "of", "four")]


def found_graph() -> Graph:
    found = served.shared_graph("", "float32")
    assert found is not None
    return found


@pytest.fixture(scope="module")
def graph() -> Graph:
    return found_graph()


def wrapped(version: Predictor, how: int) -> Predictor:
    """A version as it is loaded with a manifest that says more."""
    if how == 1:
        return Given(version, ["plan"], ())
    if how == 2:
        return PriorCorrected(version, np.linspace(-1, 1, len(version.labels)).tolist())
    if how == 3:
        return Corrected(version, {input_key(Example("goat")): version.labels[-1]})
    return version


VERSIONS = [
    wrapped(random_version(found_graph(), seed, LABELS[seed % 4], rank, tokens), seed % 4)
    for seed, (rank, tokens) in enumerate(
        [(0, 64), (4, 64), (8, 16), (0, 8), (2, 64), (3, 32), (8, 64)]
    )
]
ASKED = st.lists(
    st.tuples(
        st.sampled_from(VERSIONS),
        st.lists(EXAMPLES, max_size=5),
        st.sampled_from([0, 3]),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=40, deadline=None)
@given(ASKED)
def test_answers_are_those_of_each_version_alone(
    asked: Sequence[tuple[Predictor, list[Example], int]],
) -> None:
    found = together([answering(*one) for one in asked])
    for (version, examples, passes), answers in zip(asked, found, strict=True):
        assert isinstance(answers, Answers)
        assert answers.rows.shape == (len(examples), len(version.labels))
        np.testing.assert_allclose(answers.rows, version.predict(examples), atol=EQUAL)
        wanted = alone(answering(version, examples, passes)).passes
        assert (answers.passes is None) == (wanted is None)
        if wanted is not None and answers.passes is not None:
            np.testing.assert_allclose(answers.passes, wanted, atol=EQUAL)


@pytest.fixture
def passes_run(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each pass, as it is run."""
    run: list[int] = []
    states = Graph.states

    def counted(self: Graph, tokens: Any, adapters: Any) -> NDArray[np.float32]:
        run.append(len(tokens))
        return states(self, tokens, adapters)

    monkeypatch.setattr(Graph, "states", counted)
    return run


def test_versions_on_one_graph_take_one_pass_whose_rows_are_distinct(
    graph: Graph, passes_run: list[int]
) -> None:
    first, second = random_version(graph, 1, rank=4), random_version(graph, 2, rank=4)
    frozen, other = random_version(graph, 3), random_version(graph, 4)
    texts = [Example("a goat"), Example("a house"), Example("a goat")]
    together([answering(one, texts, 3) for one in (first, second, frozen, other)])
    # Two texts by two adapters, and by none: the frozen states are those of both.
    assert passes_run == [6]


def test_passes_with_dropout_differ(graph: Graph) -> None:
    version = random_version(graph, 1, rank=4)
    passes = alone(answering(version, [Example("a goat"), Example("a house")], 20)).passes
    assert passes is not None and passes.shape == (20, 2, 2)
    assert (passes.std(0) > 0.01).all()
    np.testing.assert_allclose(passes.sum(2), 1)


class Failing:
    """Fails before its states are there, or with them."""

    labels: tuple[str, ...] = ("no", "yes")
    features: tuple[str, ...] = ()

    def __init__(self, version: Any, late: bool) -> None:
        self._version, self._late = version, late

    def predict(self, _: Sequence[Example]) -> Any:
        raise NotImplementedError

    def answering(self, examples: Sequence[Example], passes: int) -> Any:
        if self._late:
            yield from self._version.answering(examples, passes)
        raise ValueError("cannot say")


@pytest.mark.parametrize("late", [False, True])
def test_a_version_that_fails_fails_alone(graph: Graph, late: bool) -> None:
    good, examples = random_version(graph, 1, rank=4), [Example("a goat")]
    failing = Failing(random_version(graph, 2), late)
    versions: list[Predictor] = [good, failing, good]
    first, second, third = together([answering(one, examples) for one in versions])
    assert isinstance(second, ValueError)
    for found in (first, third):
        assert isinstance(found, Answers)
        np.testing.assert_allclose(found.rows, good.predict(examples), atol=EQUAL)


def extreme(graph: Graph, value: float) -> GraphEncoder:
    """An encoder with an adapter of all layers with this number in every place."""
    shapes = graph.linears.items()
    return GraphEncoder(
        graph,
        Lora(
            1,
            {
                name: (np.full((inputs, 1), value, "f"), np.full((1, outputs), value, "f"))
                for name, (inputs, outputs) in shapes
            },
        ),
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -3e38])
def test_weights_that_would_spoil_other_versions_are_refused(graph: Graph, value: float) -> None:
    with pytest.raises(ModelError, match=r"must hold numbers up to 1e\+10"):
        extreme(graph, value)


def test_the_largest_weights_spoil_no_other_version(graph: Graph) -> None:
    good, odd = random_version(graph, 1, rank=4), random_version(graph, 2)
    odd.encoder = extreme(graph, LARGEST)
    examples = [Example("a goat"), Example("a house")]
    found, _ = together([answering(one, examples) for one in (good, odd)])
    assert isinstance(found, Answers)
    np.testing.assert_allclose(found.rows, good.predict(examples), atol=EQUAL)


def test_where_a_common_pass_fails_each_version_has_its_own(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = random_version(graph, 1, rank=4), random_version(graph, 2, rank=4)
    states, examples = Graph.states, [Example("a goat")]
    wanted = good.predict(examples)

    def failing(self: Graph, tokens: Any, adapters: Any) -> NDArray[np.float32]:
        if bad.encoder.lora in adapters:  # type: ignore[attr-defined]
            raise RuntimeError("no memory")
        return states(self, tokens, adapters)

    monkeypatch.setattr(Graph, "states", failing)
    found, failed = together([answering(one, examples) for one in (good, bad)])
    assert isinstance(failed, RuntimeError) and isinstance(found, Answers)
    np.testing.assert_allclose(found.rows, wanted, atol=EQUAL)
