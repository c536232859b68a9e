from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import ModelError
from headrace.model.activations import ActivationCache
from headrace.model.config import FinetuneConfig
from headrace.model.finetune import finetune
from headrace.model.inputs import Example, Scalar, Schema, bucket
from headrace.model.network import FROZEN_LAYERS, Backbone, load_backbone, pool
from headrace.model.recipe import TrainingExample
from headrace.model.weights import load_adapter

WORDS = ["router", "anyone", "remote", "code", "runs", "root", "page", "script", "user", "shown"]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    torch.set_num_threads(1)
    return load_backbone("cpu")


def texts(n: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 40))) for _ in range(n)]


@pytest.fixture(scope="module")
def artifact(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    train = [
        TrainingExample(
            Example(text, "eu" if i % 3 else "us", {"length": len(text), "vip": i % 2 == 0}),
            "total" if "root" in text else "partial",
        )
        for i, text in enumerate(texts(192))
    ]
    path = tmp_path_factory.mktemp("text") / "v1"
    finetune(train, config=FinetuneConfig(lora_lr=0.02), cache=ActivationCache(backbone)).save(path)
    return path


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


def test_an_artifact_is_self_contained(artifact: Path) -> None:
    assert sorted(file.name for file in artifact.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "config.json",
        "head.safetensors",
    ]
    adapter = json.loads((artifact / "adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == "sentence-transformers/all-MiniLM-L6-v2"


def test_the_merged_layers_equal_pefts_own(artifact: Path, backbone: Backbone) -> None:
    from peft import PeftModel

    adapted: Any = PeftModel.from_pretrained(backbone.copy(), artifact).eval()
    adapter = load_adapter(artifact, backbone)
    hidden = backbone.encode(texts(8, seed=5))
    upper = list(adapted.base_model.model.encoder.layer[FROZEN_LAYERS:])
    base = list(backbone.model.encoder.layer[FROZEN_LAYERS:])
    with torch.inference_mode():
        merged = pool(adapter.layers, hidden.states, hidden.mask)
        torch.testing.assert_close(
            merged, pool(upper, hidden.states, hidden.mask), atol=1e-4, rtol=0
        )
        assert not torch.allclose(merged, pool(base, hidden.states, hidden.mask), atol=1e-3)


def test_versions_share_the_backbone_and_leave_it_alone(artifact: Path, backbone: Backbone) -> None:
    before = {name: weight.clone() for name, weight in backbone.model.state_dict().items()}
    adapter = load_adapter(artifact, backbone)
    for name, weight in backbone.model.state_dict().items():
        assert torch.equal(weight, before[name]), name
    base = backbone.model.encoder.layer[FROZEN_LAYERS]
    ours = adapter.layers[0].get_parameter("intermediate.dense.weight")
    assert ours is base.intermediate.dense.weight


def test_batching_threads_and_the_cache_change_no_answer(
    artifact: Path, backbone: Backbone
) -> None:
    adapter = load_adapter(artifact, backbone)
    examples = [Example(text, "eu", {"length": len(text)}) for text in texts(24, seed=6)]
    together = adapter.predict(examples)
    with ThreadPoolExecutor(4) as threads:
        alone = list(threads.map(lambda one: adapter.predict([one])[0], examples))
    np.testing.assert_allclose(together, alone, atol=1e-4)
    np.testing.assert_allclose(together.sum(1), 1, atol=1e-5)


def test_a_long_text_and_an_empty_one_are_read(artifact: Path, backbone: Backbone) -> None:
    adapter = load_adapter(artifact, backbone)
    got = adapter.predict([Example("root " * 5_000), Example(""), Example("\x00 \U0001f512")])
    assert np.isfinite(got).all()
    assert adapter.predict([]).shape == (0, 2)


def test_a_model_without_text_never_loads_the_backbone(tabular: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from headrace.model.inputs import Example;"
        "from headrace.model.weights import load_adapter;"
        f"adapter = load_adapter(Path({str(tabular)!r}), None, 'cpu');"
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
    adapter = load_adapter(tabular, None, "cpu")
    got = adapter.predict([Example("ignored", segment, one) for one in features])
    assert got.shape == (len(features), 2)
    assert np.isfinite(got).all()


def test_the_order_of_features_changes_nothing(tabular: Path) -> None:
    adapter = load_adapter(tabular, None, "cpu")
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


def test_an_artifact_that_cannot_be_served_says_why(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="needs a backbone"):
        load_adapter(artifact, None)
    with pytest.raises(ModelError, match="no readable artifact"):
        load_adapter(tmp_path / "absent", None)
    config = json.loads((artifact / "config.json").read_text()) | {"frozen_layers": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="frozen_layers must be 2, got 1"):
        load_adapter(tmp_path, None)


def test_an_artifact_of_before_backbones_were_called_so_is_served(
    tabular: Path, tmp_path: Path
) -> None:
    place = tmp_path / "v1"
    shutil.copytree(tabular, place)
    config = json.loads((place / "config.json").read_text())
    old = config | {"trunk_tokens": config["backbone_tokens"]}
    del old["backbone_tokens"]
    (place / "config.json").write_text(json.dumps(old))
    one = [Example(features={"x": 1.0})]
    assert np.array_equal(
        load_adapter(place, None, "cpu").predict(one),
        load_adapter(tabular, None, "cpu").predict(one),
    )
    (place / "config.json").write_text(json.dumps(old | {"trunk_tokens": 64}))
    with pytest.raises(ModelError, match="backbone_tokens must be 48, got 64"):
        load_adapter(place)
