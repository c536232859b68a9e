"""Programs of the user's own, in whatever language: a Parquet file in, a folder out, JSON lines."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from headrace.errors import ModelError
from headrace.model.inputs import Example
from headrace.model.recipe import Predictor
from headrace.trainer.recipes import command
from tests.trainer.recipes.own_code import EMPTY, dataset, eventually, is_alive, no_progress

FIT = """
import json, os, pathlib, subprocess, sys
import pyarrow.parquet as pq
data, folder, parent = sys.argv[1:]
table = pq.read_table(data)
pathlib.Path(folder, "share.txt").write_text(str(table["label"].to_pylist().count("no")))
print("loading", flush=True)
print(json.dumps({"step": 1, "steps": 1, "loss": 0.5}))
print(json.dumps({"report": {"columns": table.column_names, "parent": parent}}))
"""
PREDICT = """
import json, os, pathlib, sys, time
share = int(pathlib.Path(sys.argv[1], "share.txt").read_text()) / 60
for line in sys.stdin:
    rows = json.loads(line)
    if rows[0]["plan"] is not None:
        LINE
    print(json.dumps([[share, 1 - share] for row in rows]), flush=True)
"""
PRO = Example("", "eu", {"plan": "pro"})

Write = Callable[..., command.Config]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes both programs, with a line added to each, and returns the settings that name them."""

    def written(in_fit: str = "", in_predict: str = "pass", **settings: Any) -> command.Config:
        (tmp_path / "fit it.py").write_text(FIT + in_fit)
        (tmp_path / "predict.py").write_text(PREDICT.replace("LINE", in_predict))
        return command.Config(
            fit=f"{sys.executable} '{tmp_path}/fit it.py' {{data}} {{folder}} '{{parent}}'",
            predict=f"{sys.executable} {tmp_path}/predict.py {{folder}}",
            **settings,
        )

    return written


def fit(folder: Path, config: command.Config, parent: Path | None = None) -> dict[str, Any]:
    folder.mkdir()
    return dict(command.fit(dataset(), parent, config, no_progress, folder))


def loaded(folder: Path, config: command.Config) -> Predictor:
    fit(folder, config)
    return command.load(folder)


def test_a_program_learns_and_another_answers(tmp_path: Path, write: Write) -> None:
    config = write()
    report = fit(tmp_path / "a b", config, parent=tmp_path)
    assert report == {
        "columns": [
            "text", "segment", "age", "plan", "price",
            "label", "weight", "request_id", "position", "propensity", "rejected",
        ],
        "parent": str(tmp_path.resolve() / "files"),
    }  # fmt: skip
    assert fit(tmp_path / "first", config)["parent"] == ""
    version = command.load(tmp_path / "a b")
    share = sum(one.label == "no" for one in dataset().examples) / 60
    answers = version.predict([EMPTY, PRO])
    np.testing.assert_array_equal(answers, [[share, 1 - share]] * 2)
    big = version.predict([PRO] * 5_000)  # more than a pipe holds
    assert big.shape == (5_000, 2)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("sys.exit('no licence')", "ended with code 1; it said last: no licence$"),
        (
            "print('only printed'); sys.exit(4)",
            "ended with code 4; it said last: loading | only printed$",
        ),
        ("subprocess.run(['sleep', '600'])", "took longer than 6 s and was killed"),
    ],
)
def test_what_goes_wrong_in_training_is_told(
    tmp_path: Path, write: Write, line: str, said: str
) -> None:
    timeout_s = 6 if "sleep" in line else 600
    with pytest.raises(ModelError, match=said.replace("|", r"\|")):
        fit(tmp_path / "v1", write(in_fit=line, timeout_s=timeout_s))


def test_a_timeout_ends_what_the_program_started(tmp_path: Path, write: Write) -> None:
    line = "child = subprocess.Popen(['sleep', '600'])\n"
    line += f"pathlib.Path({str(tmp_path / 'child')!r}).write_text(str(child.pid))\nchild.wait()"
    with pytest.raises(ModelError, match="took longer"):
        fit(tmp_path / "v1", write(in_fit=line, timeout_s=10))
    child = int((tmp_path / "child").read_text())
    assert eventually(lambda: not is_alive(child))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("print('hello', flush=True); continue", "must write a line of JSON .*, got 'hello"),
        ("print('[[1, 0]]', flush=True); continue", r"each of 2 rows, got \(1, 2\)"),
        ("print('[null, 1]', flush=True); continue", r"must give a list of 2 probabilities"),
        ("""print('{"error": "no such plan"}', flush=True); continue""", "no such plan"),
        ("os._exit(3)", "the program ended with code 3 and said nothing"),
        ("os.close(1); time.sleep(600)", "closed its output and was killed"),
        ("time.sleep(600)", "took longer than 3 s and was killed"),
    ],
)
def test_what_goes_wrong_in_an_answer_is_told(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch, line: str, said: str
) -> None:
    monkeypatch.setattr("headrace.trainer.recipes._own.PAUSE_S", 0)
    version = loaded(tmp_path / "v1", write(in_predict=line, predict_timeout_s=3))
    with pytest.raises(ModelError, match=said):
        version.predict([PRO, PRO])
    assert version.predict([EMPTY]).shape == (1, 2)


def test_a_program_that_was_killed_is_started_again(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.trainer.recipes._own.PAUSE_S", 0)
    version = loaded(tmp_path / "v1", write())
    first = version._program  # type: ignore[attr-defined]
    os.kill(first._process.pid, signal.SIGKILL)
    assert eventually(lambda: not first.is_running)
    assert version.predict([PRO]).shape == (1, 2)


def test_a_program_that_nobody_asks_is_killed(tmp_path: Path, write: Write) -> None:
    config = write()
    with (tmp_path / "predict.py").open("a") as program:
        program.write("time.sleep(600)")  # at the end of its input
    version = loaded(tmp_path / "v1", config)
    pid = version._program._process.pid  # type: ignore[attr-defined]
    assert is_alive(pid)
    del version
    assert eventually(lambda: not is_alive(pid))


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    config = command.Config(fit="no-such-program {data} {folder}", predict="cat")
    with pytest.raises(ModelError, match=r"no-such-program cannot be started: .*No such file"):
        fit(tmp_path / "v1", config)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"fit": "train {folder}", "predict": "p"}, "fit: must have {data} and {folder}, out of"),
        ({"fit": "train {data} {folder} {x}", "predict": "p"}, "out of {data}, {folder}, {parent}"),
        ({"fit": "train '{data} {folder}", "predict": "p"}, "fit: must be a command, got"),
        ({"fit": "train {data} {folder}", "predict": ""}, "predict: must be a command, got ''"),
        ({"fit": "train {data} {folder}", "predict": "p {data}"}, "predict: must have no other"),
        ({"fit": "train {data} {folder}", "predict": "p", "timeout_s": 0}, "Expected `float` > 0"),
    ],
)
def test_a_command_that_cannot_be_meant_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(settings, command.Config)
    assert said in str(caught.value)
