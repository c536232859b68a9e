"""Functions of the user's own: what they are given, and what is made of whatever they do."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.errors import ModelError
from headrace.model.inputs import Example
from headrace.model.recipe import Predictor, TrainingExample, TrainingSet
from headrace.trainer.recipes import python
from tests.trainer.recipes.own_code import (
    EMPTY,
    dataset,
    eventually,
    is_alive,
    no_progress,
)

# A model that says what it was asked by its probabilities; `HOW` makes it misbehave.
MODULE = """
import json, os, pathlib, signal, subprocess, sys, time
import numpy as np

def fit(data, folder, progress, **options):
    print("on standard output")
    progress(1, 2, 0.5)
    progress(2, 2)
    (folder / "share.json").write_text(json.dumps({"share": 0.25, "pid": os.getpid()}))
    {in_fit}
    return {"rows": np.int64(len(data)), **options}

def load(folder):
    {in_load}
    return json.loads((folder / "share.json").read_text())

def predict(model, data):
    if data["age"].notna().any():
        {in_predict}
    share = data["age"].fillna(model["share"]).to_numpy()
    return np.stack([share, 1 - share], axis=1)
"""

Write = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes the module `own_model`, with lines added."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def written(**lines: str) -> None:
        text = MODULE
        for place in ("in_fit", "in_load", "in_predict"):
            text = text.replace(f"{{{place}}}", lines.get(place, "pass"))
        (tmp_path / "own_model.py").write_text(text)

    return written


def fit(folder: Path, data: TrainingSet | None = None, **settings: Any) -> dict[str, Any]:
    folder.mkdir()
    config = python.Config(function="own_model:fit", **settings)
    return dict(python.fit(data or dataset(), None, config, no_progress, folder))


def loaded(folder: Path, **settings: Any) -> Predictor:
    fit(folder, **settings)
    return python.load(folder)


def age(value: float | None) -> Example:
    return Example("", "eu", {"age": value})


def pid(version: Predictor) -> int:
    return version._program._process.pid  # type: ignore[attr-defined, no-any-return]


def test_a_version_learns_reports_and_answers(tmp_path: Path, write: Write) -> None:
    write()
    told: list[tuple[int, int, float | None]] = []
    folder = tmp_path / "v1"
    folder.mkdir()
    config = python.Config(function="own_model:fit", options={"depth": 3})
    report = python.fit(
        dataset(), None, config, lambda step, steps, loss=None: told.append((step, steps, loss)),
        folder,
    )  # fmt: skip
    assert report == {"rows": 60, "depth": 3}
    assert told == [(1, 2, 0.5), (2, 2, None)]
    version = python.load(folder)
    assert version.labels == ("no", "yes")
    assert set(version.features) == {"price", "age", "plan"}
    answers = version.predict([age(0.125), EMPTY, Example("x", None, {"new": 1})])
    np.testing.assert_array_equal(answers, [[0.125, 0.875], [0.25, 0.75], [0.25, 0.75]])
    assert version.predict([]).shape == (0, 2)


def test_the_function_gets_the_training_set(tmp_path: Path, write: Write) -> None:
    check = """
    assert data.attrs["labels"] == ("no", "yes") and data.attrs["seed"] == 3, data.attrs
    assert data.attrs["task"] == "classification" and data.attrs["parent"] is None
    assert data.attrs["features"] == ["age", "features.label", "plan"]
    assert data["plan"].dtype == "category" and data["age"].dtype == "float64"
    assert list(data["features.label"]) == [1.0, 0.0]
    assert list(data["label"]) == ["yes", "no"] and list(data["weight"]) == [2.0, 1.0]
    assert list(data["request_id"]) == ["r1", ""] and data["position"][0] == 4
    assert data["propensity"][0] == 0.5 and data["rejected"][0] == "worse"
    assert data["text"][0] == "hello" and data["segment"][0] == "eu"
    assert data["age"].isna().tolist() == [False, True]
    assert list(folder.iterdir()) == [folder / "share.json"]
    """
    write(in_fit=textwrap.dedent(check).strip().replace("\n", "\n    "))
    asked = Example("hello", "eu", {"plan": "pro", "age": 31, "label": True})
    one = TrainingExample(asked, "yes", 2.0, "r1", 4, 0.5, "worse")
    other = TrainingExample(Example("", None, {"label": False}), "no")
    fit(tmp_path / "v1", TrainingSet("m", "classification", [one, other], ("no", "yes"), 3))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("raise ValueError('too few trees')", "ended with code 1; .*ValueError: too few trees"),
        ("sys.exit('no licence')", "ended with code 1; it said last: .*no licence"),
        ("os._exit(7)", "ended with code 7; it said last: on standard output"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL, as happens when memory"),
        ("time.sleep(600)", r"took longer than 8 s and was killed"),
        ("os.symlink('/etc', folder / 'etc')", "a version must hold files only, .*: etc"),
    ],
)
def test_what_goes_wrong_in_training_is_told(
    tmp_path: Path, write: Write, line: str, said: str
) -> None:
    write(in_fit=line)
    with pytest.raises(ModelError, match=said):
        fit(tmp_path / "v1", timeout_s=8 if "sleep" in line else 600)


def test_what_a_function_started_ends_with_it(tmp_path: Path, write: Write) -> None:
    write(
        in_fit="child = subprocess.Popen(['sleep', '600']); "
        "(folder / 'child').write_text(str(child.pid))"
    )
    fit(tmp_path / "v1")
    child = int((tmp_path / "v1" / "files" / "child").read_text())
    assert eventually(lambda: not is_alive(child))


def test_no_secret_is_passed_on(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HEADRACE_DSN", "HEADRACE_KAFKA_PASSWORD", "PGPASSWORD", "MY_OWN"):
        monkeypatch.setenv(name, "secret")
    write(in_fit="(folder / 'seen').write_text(' '.join(os.environ))")
    fit(tmp_path / "v1")
    seen = (tmp_path / "v1" / "files" / "seen").read_text().split()
    assert "MY_OWN" in seen
    assert not [name for name in seen if name.startswith(("HEADRACE_", "PGPASS"))]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("return np.zeros(len(data))", r"must give a list of 2 probabilities for each of 2 rows"),
        ("return np.ones((len(data), 3)) / 3", r"got \(2, 3\)"),
        ("return [['no', 'yes']] * len(data)", "must give a list of 2 probabilities"),
        ("return np.full((len(data), 2), 0.4)", r"which sum to 1 for each row, got \[0.4, 0.4\]"),
        ("raise KeyError('income')", "predict of m: KeyError: 'income'"),
        ("os._exit(3)", "the program ended with code 3"),
        ("time.sleep(600)", "took longer than 4 s and was killed"),
    ],
)
def test_what_goes_wrong_in_an_answer_is_told(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch, line: str, said: str
) -> None:
    monkeypatch.setattr("headrace.trainer.recipes._own.PAUSE_S", 0)
    write(in_predict=line)
    version = loaded(tmp_path / "v1", predict_timeout_s=4)
    with pytest.raises(ModelError, match=said):
        version.predict([age(0.5), age(None)])
    np.testing.assert_array_equal(version.predict([EMPTY]), [[0.25, 0.75]])


def test_what_is_no_number_is_left_to_the_gate(tmp_path: Path, write: Write) -> None:
    write(in_predict="return np.full((len(data), 2), np.nan)")
    assert np.isnan(loaded(tmp_path / "v1").predict([age(0.5)])).all()


def test_a_version_that_cannot_be_loaded_is_told(tmp_path: Path, write: Write) -> None:
    write(in_load="raise RuntimeError('of another format')")
    fit(tmp_path / "v1")
    with pytest.raises(ModelError, match=r"ended with code 1; .*RuntimeError: of another format"):
        python.load(tmp_path / "v1")
    (tmp_path / "v1" / "own.json").write_text("{}")
    with pytest.raises(ModelError, match=r"v1 lacks a readable own.json"):
        python.load(tmp_path / "v1")


def test_a_function_that_is_not_there_is_told(tmp_path: Path, write: Write) -> None:
    write()
    with pytest.raises(ModelError, match="own_model has no function guess"):
        loaded(tmp_path / "v1", predict="own_model:guess")


def test_a_process_that_was_killed_is_started_again(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write()
    version = loaded(tmp_path / "v1")
    first = pid(version)
    os.kill(first, signal.SIGKILL)
    # A process that shows as a zombie goes on ending while its other threads do.
    assert eventually(lambda: not version._program.is_running)  # type: ignore[attr-defined]
    monkeypatch.setattr("headrace.trainer.recipes._own.PAUSE_S", 3_600)
    with pytest.raises(ModelError, match=r"died \d+ s after its start, and is started again 3600"):
        version.predict([EMPTY])
    monkeypatch.setattr("headrace.trainer.recipes._own.PAUSE_S", 0)
    np.testing.assert_array_equal(version.predict([EMPTY]), [[0.25, 0.75]])
    assert pid(version) != first


PARENT = """
import pathlib, sys, time
from headrace.trainer.recipes import python
from tests.trainer.recipes.own_code import dataset, no_progress
sys.path.append(sys.argv[1])
folder = pathlib.Path(sys.argv[1], "killed")
folder.mkdir()
python.fit(dataset(), None, python.Config(function="own_model:fit"), no_progress, folder)
version = python.load(folder)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only there a program ends with its parent")
@pytest.mark.parametrize("where", ["in_fit", "in_load"])
def test_nothing_outlives_a_headrace_that_was_killed(
    tmp_path: Path, write: Write, where: str
) -> None:
    pids = tmp_path / "pid"
    line = f"pathlib.Path({str(pids)!r}).write_text(f'{{os.getpid()}}.')"
    write(**{where: line + ("; time.sleep(600)" if where == "in_fit" else "")})
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)])
    try:
        assert eventually(lambda: pids.exists() and pids.read_text().endswith("."))
    finally:
        parent.kill()
        parent.wait()
    assert eventually(lambda: not is_alive(int(pids.read_text().rstrip("."))))


def test_threads_get_their_own_answers(tmp_path: Path, write: Write) -> None:
    write(in_predict="time.sleep(0.001); print('chatter')")
    version = loaded(tmp_path / "v1")
    asked = [n / 64 for n in range(64)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda share: version.predict([age(share)])[0, 0], asked))
    assert answers == asked


def test_a_version_that_nobody_holds_ends(tmp_path: Path, write: Write) -> None:
    write()
    version = loaded(tmp_path / "v1")
    worker = pid(version)
    assert is_alive(worker)
    del version
    gc.collect()
    assert eventually(lambda: not is_alive(worker))
