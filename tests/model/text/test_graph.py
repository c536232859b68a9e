"""Graphs: what ONNX Runtime answers is what torch answers, whatever shares a batch or a session."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import ModelError
from headrace.model.inputs import Example
from headrace.model.recipe import TrainingExample, TrainingSet
from headrace.model.text import served
from headrace.model.text.encoder import Encoder, shared_encoder
from headrace.model.text.export import export
from headrace.model.text.graph import Graph, GraphEncoder, mixed_states
from headrace.model.text.lora import Lora
from headrace.model.text.precision import choose_precision
from headrace.model.text.tokens import passes_of_like_length
from headrace.model.text.version import load, read_config
from headrace.trainer.recipes import text_classifier
from headrace.trainer.recipes.text_classifier import Config
from tests.support.text_versions import random_lora

EQUAL = 1e-4
TEXTS = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from(["goat", "house", "Überfluss", "x1", "."]), max_size=90).map(" ".join),
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def graph() -> Graph:
    found = served.shared_graph("", "float32")
    assert found is not None
    return found


@pytest.fixture(scope="module")
def adapters(graph: Graph) -> list[Lora]:
    """Of several ranks; the last one leaves half of the layers as they are."""
    return [
        random_lora(graph, seed, rank, 2 if seed == 3 else 1)
        for seed, rank in enumerate((1, 4, 8, 3))
    ]


@settings(max_examples=12, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=6), st.sampled_from([8, 64]))
def test_the_frozen_encoder_is_that_of_torch(texts: list[str], most: int) -> None:
    graph = served.shared_graph("", "float32")
    assert graph is not None
    encoder, ours = shared_encoder(""), GraphEncoder(graph)
    tokens = encoder.tokenize(texts, most)
    assert ours.tokenize(texts, most) == tokens
    np.testing.assert_allclose(ours.states(tokens), encoder.states(tokens), atol=EQUAL)


def test_rows_of_several_adapters_are_one_pass(graph: Graph, adapters: list[Lora]) -> None:
    base = shared_encoder("")
    texts = ["", "one goat", "a house in the city " * 20, "my castle", "日本語"]
    tokens = base.tokenize(texts, 64)
    encoders = [GraphEncoder(graph), *(GraphEncoder(graph, one) for one in adapters)]
    torches: list[Encoder] = [base, *(base.merged(one) for one in adapters)]
    pairs = [(at, ids) for ids in tokens for at in range(len(encoders))]
    got = mixed_states([encoders[at] for at, _ in pairs], [ids for _, ids in pairs])
    wanted = np.concatenate([torches[at].states([ids]) for at, ids in pairs])
    np.testing.assert_allclose(got, wanted, atol=EQUAL)
    assert np.abs(got[0] - got[1]).max() > 0.01


def test_adapters_of_several_threads_are_never_mixed_up(graph: Graph, adapters: list[Lora]) -> None:
    encoders = [GraphEncoder(graph), *(GraphEncoder(graph, one) for one in adapters)]
    tokens = encoders[0].tokenize(["the goat", "a castle"], 16)
    wanted = [one.states(tokens) for one in encoders]

    def wrong(seed: int) -> int:
        asked = np.random.default_rng(seed).integers(0, len(encoders), 40)
        return sum(
            not np.allclose(encoders[at].states(tokens), wanted[at], atol=EQUAL) for at in asked
        )

    with ThreadPoolExecutor(2) as threads:
        assert sum(threads.map(wrong, range(2))) == 0


@settings(max_examples=12, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=6))
def test_eight_bits_are_near_and_do_not_depend_on_what_else_is_asked(texts: list[str]) -> None:
    exact, coarse = (served.shared_graph("", one) for one in ("float32", "int8"))
    assert exact is not None and coarse is not None
    tokens = GraphEncoder(exact).tokenize([*texts, "a house"], 64)
    adapters = [random_lora(exact, 1, 4) if at % 2 else None for at in range(len(tokens))]
    got, wanted = (one.states(tokens, adapters) for one in (coarse, exact))
    apart = np.linalg.norm(got - wanted, axis=1) / np.linalg.norm(wanted, axis=1)
    assert 1e-4 < apart.max() < 0.2
    alone = [coarse.states([ids], [adapter]) for ids, adapter in zip(tokens, adapters, strict=True)]
    np.testing.assert_allclose(got, np.concatenate(alone), atol=EQUAL)


@given(st.lists(st.integers(2, 60), max_size=40), st.integers(1, 200))
def test_a_pass_holds_so_many_tokens_or_one_row(lengths: list[int], most: int) -> None:
    passes = passes_of_like_length([[0] * length for length in lengths], most)
    assert sorted(row for one in passes for row in one) == list(range(len(lengths)))
    for one in passes:
        assert len(one) == 1 or len(one) * max(lengths[row] for row in one) <= most


def test_an_adapter_of_other_layers_is_refused(graph: Graph) -> None:
    odd = Lora(1, {"encoder.other": (np.zeros((4, 1), np.float32), np.zeros((1, 4), np.float32))})
    with pytest.raises(ModelError, match="must have the shapes"):
        GraphEncoder(graph, odd)


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts") / "v1"
    folder.mkdir()
    examples = [
        TrainingExample(Example(f"{word} {n} of {label}"), label)
        for n in range(30)
        for label, word in (("animal", "goat"), ("place", "house"))
    ]
    said = text_classifier.fit(
        TrainingSet("m", "classification", examples),
        None,
        Config(adapter="never", int8_tolerance=0),
        lambda *_: None,
        folder,
    )
    assert said["int8"] == "not tried, as it is declared"
    assert read_config(folder)["precision"] == "float32"
    return folder


def test_int8_serves_only_within_its_tolerance(version: Path) -> None:
    asked = [Example(f"an old {word} here {n}") for n in range(10) for word in ("goat", "school")]
    precision, said = choose_precision(version, asked, 1.0, 1.0)
    assert precision == "int8" and said.startswith("served: a probability moves by 0.0")
    precision, said = choose_precision(version, asked, 1e-9, 1.0)
    assert precision == "float32" and said.startswith("not served: ")
    assert choose_precision(version, asked, 0, 1.0)[0] == "float32"
    assert choose_precision(version, [], 1.0, 1.0)[0] == "float32"


def test_a_version_is_loaded_without_torch(version: Path) -> None:
    code = (
        "import sys, pathlib; from headrace.model.text.version import load; "
        "from headrace.model.inputs import Example; "
        "p = load(pathlib.Path(sys.argv[1])).predict([Example('a goat')]); "
        "assert p.shape == (1, 2); "
        "print([name for name in ('torch', 'transformers', 'peft') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, version], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_without_a_cache_torch_answers_the_same(
    version: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = [Example("a goat"), Example("")]
    wanted = load(version).predict(asked)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "file"))
    served.shared_graph.cache_clear()
    try:
        slow = load(version)
        assert isinstance(slow.encoder, Encoder)
        np.testing.assert_allclose(slow.predict(asked), wanted, atol=EQUAL)
        load(version)
    finally:
        served.shared_graph.cache_clear()
    assert len([one for one in caplog.records if "is served by torch" in one.message]) == 1


def test_another_base_is_exported_whole_or_not_at_all(tmp_path: Path) -> None:
    from transformers import DistilBertConfig, DistilBertModel

    from headrace.model.text.bundled import bundled

    base, place = tmp_path / "base", tmp_path / "cache" / "x"
    small = DistilBertConfig(vocab_size=30_522, dim=16, hidden_dim=32, n_layers=2, n_heads=2)
    DistilBertModel(small).save_pretrained(base)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (base / name).write_bytes((bundled() / name).read_bytes())
    export(str(base), place)
    made = Graph(place, "int8")
    assert len(made.linears) == 12 and made.dim == 16
    with pytest.raises(ModelError, match="base: must be a folder"):
        export(str(tmp_path / "nothing"), tmp_path / "cache" / "y")
    assert [one.name for one in place.parent.iterdir()] == ["x"]
