"""Two versions that disagree, published for a gateway to load, and what each predicts."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np

from headrace.engine import Engine
from headrace.events.contract import parse
from headrace.events.log import EventLog
from headrace.model.artifact import VERSION, Manifest
from headrace.model.inputs import Example

TEXTS = ["short", "a longer text about nothing", "words " * 40, "", "overflow in the parser"]
NUMBERS = [0.0, 3.5, 120.0]


def example(number: int) -> Example:
    return Example(
        TEXTS[number % len(TEXTS)],
        f"s{number % 2}",
        {"size": NUMBERS[number % len(NUMBERS)], "kind": "ab"[number % 2]},
    )


def request(number: int) -> dict[str, Any]:
    one = example(number)
    return {
        "model": "m", "input": {"text": one.text}, "segment": one.segment,
        "features": dict(one.features),
    }  # fmt: skip


class Published:
    """Two real versions on disk that disagree, and what each of them answers."""

    def __init__(self, folder: Path) -> None:
        from headrace.model.recipe import TrainingExample, TrainingSet
        from headrace.trainer.recipes import text_classifier

        config = text_classifier.Config(adapter="always", epochs=1)
        self.paths: dict[str, Path] = {}
        self.expected: dict[str, np.ndarray[Any, Any]] = {}
        examples = [example(number) for number in range(30)]
        for version, labels in (("1", ("no", "yes")), ("2", ("yes", "no"))):
            train = [
                TrainingExample(one, labels[number % 2]) for number, one in enumerate(examples)
            ]
            path = folder / version
            path.mkdir(parents=True)
            dataset = TrainingSet("m", "classification", train, ("no", "yes"))
            text_classifier.fit(dataset, None, config, lambda *_: None, path)
            manifest = Manifest(
                recipe="text_classifier", task="classification", labels=("no", "yes")
            )
            (path / VERSION).write_bytes(msgspec.json.encode(manifest))
            self.paths[version] = path
            self.expected[version] = text_classifier.load(path).predict(examples)
        assert np.abs(self.expected["1"] - self.expected["2"]).max(axis=1).min() > 0.05

    def copy_to(self, root: Path) -> None:
        """Put the versions where `event` says they are."""
        self.root = root.resolve()
        for version, path in self.paths.items():
            shutil.copytree(path, self.root / version)

    def event(self, version: str, event: str = "promoted", **fields: Any) -> dict[str, Any]:
        return {
            "model": "m", "model_version": version, "event": event,
            "artifact_uri": str(self.root / version), **fields,
        }  # fmt: skip

    def check(self, number: int, answer: dict[str, Any]) -> None:
        """The answer is what the version that it names gives, and no other."""
        expected = self.expected[answer["model_version"]][number % 30]
        scores = [answer["scores"]["no"], answer["scores"]["yes"]]
        np.testing.assert_allclose(scores, expected, atol=2e-3)
        assert answer["score"] == answer["scores"]["yes"]
        assert answer["prediction"] == ("no", "yes")[int(np.argmax(scores))]


def publish(engine: Engine, event: dict[str, Any]) -> None:
    with EventLog(engine) as log:
        log.append("model_events", [parse("model_events", event)])


def wait_for(http: httpx.Client, version: str, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        plan = http.get("/v1/plan").json()["versions"]
        if any(row["model_version"] == version and row["loaded"] for row in plan):
            return
        time.sleep(0.05)
    raise AssertionError(f"version {version} was not loaded: {plan}")
