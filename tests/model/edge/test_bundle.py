"""A bundle answers as its version does, without Headrace, and its events arrive exactly once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from headrace.control.lifecycle import published_version
from headrace.engine import Engine
from headrace.errors import ModelError
from headrace.events.contract import parse
from headrace.events.log import EventLog
from headrace.model.artifact import VERSION, Manifest
from headrace.model.corrections import input_key
from headrace.model.edge import answers
from headrace.model.edge import outbox as outboxes
from headrace.model.edge.bundle import write_bundle
from headrace.model.inputs import Example
from headrace.model.recipe import TrainingExample, TrainingSet
from headrace.settings import Settings
from headrace.trainer import recipes
from headrace.trainer.recipes import load, text_classifier
from headrace.trainer.recipes.text_classifier import Config
from tests.support.blocks import blocks
from tests.support.gateways import running_gateway

# What a bundle needs, and nothing else, can be imported from a folder of links.
NEEDED = ("numpy", "numpy.libs", "onnxruntime", "tokenizers")
ODD = ["", "goat " * 4_000, "\x00 \U0001f512 ẞ", "the old school", "日本語のテキスト", "  a  goat "]

pytestmark = pytest.mark.usefixtures("one_thread")


def trained(folder: Path, config: Config, **said: Any) -> Path:
    """A version of texts with categories, and what the trainer writes beside it."""
    folder.mkdir()
    examples = [
        TrainingExample(Example(f"the {word} {n} of {label}", "eu" if n % 2 else "us"), label)
        for n in range(15)
        for label, word in (("Animal ", "goat"), ("place", "house"))
    ]
    dataset = TrainingSet("m", "classification", examples)
    text_classifier.fit(dataset, None, config, lambda *_: None, folder)
    manifest = Manifest(recipe="text_classifier", task="classification", **said)
    (folder / VERSION).write_bytes(msgspec.json.encode(manifest))
    return folder


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With an adapter, weights in 8 bits, a shift, a correction by hand, and one learned online."""
    root = tmp_path_factory.mktemp("edge")
    parent = trained(
        root / "v1",
        Config(adapter="always", epochs=1, tokens=16, int8_tolerance=1.0, int8_changed=1.0),
        labels=("Animal ", "place"),
        shift=(0.5, -0.5),
        corrections={input_key(Example("a goat")): "place", input_key(Example("x")): "gone"},
    )
    child = root / "v1.1"
    child.mkdir()
    for path in parent.iterdir():
        (child / path.name).hardlink_to(path)
    step = [TrainingExample(Example("the old school"), "Animal ")]
    text_classifier.update(parent, step, child, rate=0.01, steps=5)
    return child


@pytest.fixture(scope="module")
def bundle(version: Path) -> Path:
    target = version.parent / "bundle"
    facts = write_bundle(version, "m", "v1.1", target)
    assert facts["precision"] == "int8"
    return target


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packages")
    for name in NEEDED:
        found = Path(np.__file__).parents[1] / name
        if found.exists():
            (folder / name).symlink_to(found)
    return folder


def alone(packages: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run Python where nothing but NEEDED and its own library is there."""
    return subprocess.run(
        [sys.executable, "-S", "-s", *arguments],
        env={"PYTHONPATH": str(packages)},
        cwd=packages,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_bundle_answers_as_its_version_does(version: Path, bundle: Path) -> None:
    model, (_, predictor) = answers.Model(bundle), load(version)
    examples = [Example(text, segment) for text in [*ODD, "a goat"] for segment in (None, "eu")]
    examples.append(Example("", None, {"kind": "x", "n": 3, "flag": True}))
    wanted = predictor.predict(examples)
    got = [model.probabilities(one.text, one.segment, one.features) for one in examples]
    np.testing.assert_allclose(got, wanted, atol=1e-4)
    assert np.ptp(wanted[:, 0]) > 0.3


def test_a_bundle_without_an_adapter_answers_as_its_version_does(tmp_path: Path) -> None:
    folder = trained(tmp_path / "v2", Config(adapter="never", int8_tolerance=0))
    write_bundle(folder, "m", "v2", tmp_path / "bundle")
    model, (_, predictor) = answers.Model(tmp_path / "bundle"), load(folder)
    got = [model.probabilities(text, None, {}) for text in ODD]
    np.testing.assert_allclose(got, predictor.predict([Example(text) for text in ODD]), atol=1e-4)


def test_it_runs_where_headrace_is_not(version: Path, bundle: Path, packages: Path) -> None:
    for name in ("headrace", "torch", "transformers"):
        assert "ModuleNotFoundError" in alone(packages, "-c", f"import {name}").stderr
    ours: tuple[str | Path, ...] = (bundle / "run.py", "--outbox", bundle.parent / "alone.jsonl")
    done = alone(packages, *ours, "predict", "the old school", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    wanted = load(version)[1].predict([Example("the old school")])[0]
    np.testing.assert_allclose(list(answer["scores"].values()), wanted, atol=1e-4)
    assert list(answer["scores"]) == ["Animal", "place"]
    request = answer["request_id"]
    done = alone(packages, *ours, "feedback", request, "place")
    assert "2 events wait" in done.stdout
    done = alone(packages, *ours, "sync", "--url", "http://127.0.0.1:1")
    assert done.returncode == 1 and "cannot be reached" in done.stderr
    assert "2 events wait" in done.stderr and "Traceback" not in done.stderr
    for command in ((), ("predict",), ("feedback",), ("sync",)):
        assert "example:" in alone(packages, bundle / "run.py", *command, "--help").stdout


FEATURES: list[dict[str, Any]] = [
    {},
    {"size": 3, "kind": "a", "flag": True},
    {"size": -1e300, "kind": "never seen", "weight": float("nan")},
    {"size": 10**400, "flag": False, "new": 1, "weight": 0.25},
    {"size": "a text", "kind": 7, "weight": None},
]


@pytest.mark.parametrize("recipe", ["text_classifier", "tabular"])
def test_features_count_as_they_do_in_the_version(tmp_path: Path, recipe: str) -> None:
    folder = tmp_path / "v1"
    folder.mkdir()
    rng = np.random.default_rng(0)
    text = "said" if recipe == "text_classifier" else ""
    examples = []
    for n, kind in enumerate(rng.choice(["a", "b", "c"], 120).tolist()):
        given = {"size": float(rng.normal()), "kind": kind, "flag": kind == "b", "weight": n}
        label = "yes" if (kind == "a") == (n % 10 != 0) else "no"
        examples.append(TrainingExample(Example(text, "eu" if n % 2 else None, given), label))
    dataset = TrainingSet("m", "classification", examples, ("no", "yes"))
    trainer = recipes.find(recipe)
    how: dict[str, Any] = (
        {"adapter": "never", "int8_tolerance": 0} if recipe == "text_classifier" else {"steps": 100}
    )
    trainer.fit(dataset, None, trainer.Config(**how), lambda *_: None, folder)
    manifest = Manifest(recipe=recipe, task="classification", labels=("no", "yes"))
    (folder / VERSION).write_bytes(msgspec.json.encode(manifest))
    write_bundle(folder, "m", "v1", tmp_path / "bundle")
    model, (_, predictor) = answers.Model(tmp_path / "bundle"), load(folder)
    asked = [Example(text, "eu", said) for text in ("", "said") for said in FEATURES]
    asked += [one.example for one in examples[:20]]
    wanted = predictor.predict(asked)
    got = [model.probabilities(one.text, one.segment, one.features) for one in asked]
    np.testing.assert_allclose(got, wanted, atol=1e-4)
    assert np.ptp(wanted[:, 1]) > 0.3


def test_the_example_of_the_page_runs(
    bundle: Path, packages: Path, engine: Engine, settings: Settings, tmp_path: Path
) -> None:
    (example,) = [one for one in blocks() if one.page.name == "edge.md" and one.options]
    folder = tmp_path / "bundle"
    shutil.copytree(bundle, folder)
    with running_gateway(engine, settings) as url:
        (folder / "ask.py").write_text(example.text.replace("http://127.0.0.1:8321", url))
        done = alone(packages, folder / "ask.py")
    assert done.returncode == 0, done.stderr
    assert stored(engine) == (1, 1)
    shown = engine.rows("select prediction, probabilities is null as bare from events.inference")
    assert shown[0]["prediction"] in ("Animal", "place") and not shown[0]["bare"]


def test_the_champion_is_exported_where_no_version_is_named(engine: Engine) -> None:
    for name in ("v1", "v2"):
        event = {
            "model": "m",
            "model_version": name,
            "event": "promoted",
            "artifact_uri": f"/a/{name}",
        }
        with EventLog(engine) as log:
            log.append("model_events", [parse("model_events", event)])
    assert published_version(engine, "m") == ("v2", "/a/v2")
    assert published_version(engine, "m", "v1") == ("v1", "/a/v1")
    with pytest.raises(ModelError, match="must be one of v1, v2, got 'v3'"):
        published_version(engine, "m", "v3")


def test_what_cannot_answer_by_itself_is_refused(version: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="to: must be a folder that is not there yet"):
        write_bundle(version, "m", "v1", tmp_path)
    (tmp_path / "v1").mkdir()
    other = msgspec.json.encode(Manifest(recipe="tabular", task="regression"))
    (tmp_path / "v1" / VERSION).write_bytes(other)
    with pytest.raises(ModelError, match="got a regression by tabular"):
        write_bundle(tmp_path / "v1", "m", "v1", tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def kept(outbox: outboxes.Outbox, count: int, start: int = 0) -> None:
    for n in range(start, start + count):
        inference = {
            "model": "m",
            "model_version": "v1.1",
            "request_id": f"r{n}",
            "prediction": "a",
        }
        outbox.add("inferences", {**inference, "event_time": outboxes.now()})
        said = {"feedback_id": f"f{n}", "request_id": f"r{n}", "label": "a"}
        outbox.add("feedback", {**said, "event_time": outboxes.now()})


def stored(engine: Engine) -> tuple[int, int]:
    row = engine.rows(
        "select (select count(*) from events.inference) as asked, "
        "(select count(*) from events.feedback) as said"
    )[0]
    return row["asked"], row["said"]


def test_what_waits_arrives_once_whenever_a_sync_is_killed(
    engine: Engine, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = outboxes.Outbox(tmp_path / "outbox.jsonl")
    kept(outbox, 40)
    with outbox.path.open("ab") as file:
        file.write(b'{"topic": "feedback", "ev')  # cut off by a power failure
    kept(outbox, 1, 40)
    outbox.add("feedback", {"feedback_id": "bad", "request_id": "r0", "label": ["no", "label"]})
    code = (
        "import sys, pathlib; from headrace.model.edge import outbox; outbox.AT_ONCE = 7; "
        "print(outbox.Outbox(pathlib.Path(sys.argv[1])).sync(sys.argv[2]))"
    )
    with running_gateway(engine, settings) as url:
        killed = 0
        for pause in (0.02, 0.05, 0.1, 0.15):
            process = subprocess.Popen(
                [sys.executable, "-c", code, str(outbox.path), url], stdout=subprocess.DEVNULL
            )
            deadline = time.monotonic() + 30
            before = stored(engine)
            while stored(engine) == before and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.005)
            time.sleep(pause / 10)
            os.kill(process.pid, signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
        assert killed
        monkeypatch.setattr(outboxes, "AT_ONCE", 7)
        # As after a kill between the last answer and the note of it.
        outbox._write_sent(0)
        done = outbox.sync(url)
        assert stored(engine) == (41, 41)
        assert done["rejected"] == 1 and done["duplicates"] > 0
        assert sum(done.values()) == 83
        assert outbox.waiting() == 0 and outbox.path.stat().st_size == 0
        kept(outbox, 1, 41)
        assert outbox.sync(url) == {"accepted": 2, "duplicates": 0, "rejected": 0}
    assert '"bad"' in outbox.rejected.read_text()
    assert stored(engine) == (42, 42)


def test_a_sync_while_another_is_under_way_says_so(tmp_path: Path) -> None:
    outbox = outboxes.Outbox(tmp_path / "outbox.jsonl")
    with (
        outboxes._locked(tmp_path / "outbox.jsonl.sync"),
        pytest.raises(outboxes.SyncError, match="another"),
    ):
        outbox.sync("http://127.0.0.1:1")
