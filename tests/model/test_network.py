from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import ModelError
from headrace.model.config import FinetuneConfig
from headrace.model.finetune import finetune
from headrace.model.inputs import Example, Scalar, Schema, bucket
from headrace.model.recipe import TrainingExample
from headrace.model.weights import load_adapter


@pytest.fixture(scope="module")
def tabular(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(1)
    train = [
        TrainingExample(Example("", "eu", {"x": float(x), "plan": "pro"}), "yes" if x > 0 else "no")
        for x in rng.normal(size=120)
    ]
    path = tmp_path_factory.mktemp("tabular") / "v1"
    finetune(train, config=FinetuneConfig(tabular_steps=50)).save(path)
    return path


def test_a_model_without_text_never_loads_the_backbone(tabular: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from headrace.model.inputs import Example;"
        "from headrace.model.weights import load_adapter;"
        f"adapter = load_adapter(Path({str(tabular)!r}), 'cpu');"
        "p = adapter.predict([Example(features={'x': 1.0})]);"
        "assert p.shape == (1, 2); assert 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


anything = st.dictionaries(
    st.sampled_from(["x", "plan", "new", ""]),
    st.one_of(st.none(), st.booleans(), st.text(max_size=5), st.integers(), st.floats(width=64)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(anything, min_size=1, max_size=4), st.one_of(st.none(), st.text(max_size=4)))
def test_no_feature_makes_a_prediction_fail(
    tabular: Path, features: list[dict[str, float | str | bool | None]], segment: str | None
) -> None:
    adapter = load_adapter(tabular, "cpu")
    got = adapter.predict([Example("ignored", segment, one) for one in features])
    assert got.shape == (len(features), 2)
    assert np.isfinite(got).all()


def test_the_order_of_features_changes_nothing(tabular: Path) -> None:
    adapter = load_adapter(tabular, "cpu")
    one: dict[str, Scalar]
    other: dict[str, Scalar]
    one, other = {"a": "1", "x": 0.3, "b": True}, {"b": True, "x": 0.3, "a": "1"}
    got = adapter.predict([Example("", "eu", one), Example("", "eu", other)])
    assert np.array_equal(got[0], got[1])


def test_hashes_are_the_same_everywhere() -> None:
    assert bucket("plan", "pro", 1 << 17) == 79_263


def test_numbers_are_standardised_and_missing_ones_marked() -> None:
    schema = Schema.fit([Example(features={"x": x, "plan": "pro"}) for x in (-3, -1, 1, 3)])
    assert schema.numerics == ("x",)
    got = schema.numbers([Example(features={"x": 0}), Example(), Example(features={"x": True})])
    np.testing.assert_allclose(got, [[0, 0], [0, 1], [0, 1]], atol=1e-6)
    assert Schema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema


def test_batching_and_threads_change_no_answer(tabular: Path) -> None:
    version = load_adapter(tabular, "cpu")
    asked = [Example("", "eu", {"x": number / 100, "plan": "pro"}) for number in range(300)]
    together = version.predict(asked)
    with ThreadPoolExecutor(4) as threads:
        alone = list(threads.map(lambda one: version.predict([one])[0], asked))
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert version.predict([]).shape == (0, 2)


def test_an_artifact_that_cannot_be_served_says_why(tabular: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no readable artifact"):
        load_adapter(tmp_path / "absent")
    config = json.loads((tabular / "config.json").read_text()) | {"wide_buckets": 8}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="wide_buckets must be 131072, got 8"):
        load_adapter(tmp_path)
    (tmp_path / "config.json").write_text((tabular / "config.json").read_text())
    with pytest.raises(ModelError, match=r"lacks head\.safetensors"):
        load_adapter(tmp_path)
