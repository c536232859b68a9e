"""A function of your own that trains and one that answers, in processes of their own.

The module is found beside ``headrace.toml``, or wherever Python finds it. Whatever the functions
do, trainer and gateway go on.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from headrace.model.recipe import Predictor, Progress, TrainingSet
from headrace.trainer.recipes import _own
from headrace.trainer.recipes._own import FILES, NEEDS, TASKS, Seconds

__all__ = ["NEEDS", "TASKS", "Config", "fit", "load"]

# Not `-m`: the process finds modules where this one does.
_WORKER = """\
import json, sys
sys.path[:] = json.loads(sys.argv.pop(1))
from headrace.trainer.recipes._python_worker import main
main()
"""


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of functions of your own.

    Attributes:
        function: `module:function`, called as `function(data, folder, progress, **options)`.
        predict: `module:function`, called as `function(model, data)`, where `model` is what the
            function `load(folder)` of its module returned; "": `predict` of the same module.
        options: named arguments of `function`.
        timeout_s: seconds that `function` may take; then its process is killed, with all that it
            started.
        predict_timeout_s: seconds that an answer may take.
    """

    function: Annotated[str, Meta(pattern=r"^[\w.]+:\w+$")]
    predict: Annotated[str, Meta(pattern=r"^([\w.]+:\w+)?$")] = ""
    options: dict[str, Any] = {}
    timeout_s: Seconds = 3_600.0
    predict_timeout_s: Seconds = 10.0


def fit(
    dataset: TrainingSet, parent: Path | None, config: Config, progress: Progress, folder: Path
) -> Mapping[str, Any]:
    """Call the function; the report is the dictionary that it returns, if any."""
    module, _, _ = config.function.partition(":")
    worker = _worker("fit", config.function, folder)
    before = str(parent.resolve() / FILES) if parent else ""
    return _own.fit(
        dataset,
        config,
        config.predict or f"{module}:predict",
        progress,
        folder,
        lambda data: [*worker, str(data), before, json.dumps(config.options)],
    )


def load(folder: Path) -> Predictor:
    """Start the process that answers."""
    own = _own.read_own(folder)
    return _own.Answers(own, _worker("serve", own.predict, folder))


def _worker(what: str, function: str, folder: Path) -> list[str]:
    path = json.dumps(sys.path)
    return [sys.executable, "-c", _WORKER, path, what, function, str(folder.resolve())]
