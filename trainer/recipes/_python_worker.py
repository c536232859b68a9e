"""The process of the recipe `python`: calls the user's functions, speaks as `_own` says.

What they print goes to standard error, as standard output is what Headrace reads.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from headrace.model.recipe import Progress
from headrace.trainer.recipes._own import FILES, Own, read_own

if TYPE_CHECKING:
    import pandas as pd


def main() -> None:
    """Run as ``fit FUNCTION FOLDER DATA PARENT OPTIONS`` or ``serve FUNCTION FOLDER``.

    A function is `module:function`, FOLDER that of the version, PARENT what the version before
    wrote, "" if there was none.
    """
    what, target, folder, *rest = sys.argv[1:]
    asked, answers = _streams()
    own = read_own(Path(folder))
    if what == "fit":
        data, parent, options = rest
        report = _fit(own, target, Path(folder) / FILES, data, parent, options, answers)
        _say(answers, {"report": report})
    else:
        _serve(own, target, Path(folder) / FILES, asked, answers)


def _fit(
    own: Own, target: str, folder: Path, data: str, parent: str, options: str, answers: IO[str]
) -> dict[str, Any]:
    import pyarrow.parquet as pq

    def progress(step: int, steps: int, loss: float | None = None) -> None:
        _say(answers, {"step": int(step), "steps": int(steps), "loss": loss})

    told: Progress = progress
    frame = _framed(own, pq.read_table(data).to_pydict())
    frame.attrs["parent"] = Path(parent) if parent else None
    function, _ = _found(target)
    report = function(frame, folder, told, **json.loads(options))
    return report if isinstance(report, dict) else {}


def _serve(own: Own, target: str, folder: Path, asked: IO[str], answers: IO[str]) -> None:
    import numpy as np

    predict, module = _found(target)
    if not hasattr(module, "load"):
        raise SystemExit(f"{module.__name__} has no function load(folder)")
    model = module.load(folder)
    for line in asked:
        rows = json.loads(line)
        try:
            frame = _framed(own, {name: [row[name] for row in rows] for name in rows[0]})
            answer = np.asarray(predict(model, frame)).tolist()
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        _say(answers, answer)


def _framed(own: Own, columns: dict[str, list[Any]]) -> pd.DataFrame:
    from headrace.model.table import column_name

    frame = own.columns.frame(columns)
    frame.attrs = {
        "model": own.model,
        "task": own.task,
        "labels": own.labels,
        "seed": own.seed,
        "features": [column_name(name) for name in own.columns.features],
    }
    return frame


def _found(target: str) -> tuple[Callable[..., Any], Any]:
    name, _, function = target.partition(":")
    module = import_module(name)
    if not hasattr(module, function):
        raise SystemExit(f"{name} has no function {function}")
    return getattr(module, function), module


def _streams() -> tuple[IO[str], IO[str]]:
    """Take standard input and output for ourselves; what else is printed goes to standard error."""
    asked, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    return asked, answers


def _say(answers: IO[str], what: Any) -> None:
    answers.write(json.dumps(what, default=_plain) + "\n")
    answers.flush()


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays as JSON has them, anything else by its text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
