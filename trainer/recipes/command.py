"""Any program: it reads the training set as Parquet and writes a folder, another one answers.

Neither is run by a shell, or sees a setting of Headrace. Both are started in the folder where
Headrace was.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from headrace.model.recipe import Predictor, Progress, TrainingSet
from headrace.trainer.recipes import _own
from headrace.trainer.recipes._own import FILES, NEEDS, TASKS, Seconds

__all__ = ["NEEDS", "TASKS", "Config", "fit", "load"]


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of programs of your own.

    Attributes:
        fit: the program that trains: `{data}` is the Parquet file that it reads, `{folder}` the
            empty folder that it fills, `{parent}` that of the version before, "" if there is none.
        predict: the program that answers, a line of JSON for each line of JSON; `{folder}` is what
            `fit` wrote.
        timeout_s: seconds that `fit` may take; then it is killed, with all that it started.
        predict_timeout_s: seconds that an answer may take.
    """

    fit: str
    predict: str
    timeout_s: Seconds = 3_600.0
    predict_timeout_s: Seconds = 10.0

    def __post_init__(self) -> None:
        _check("fit", self.fit, needed={"data", "folder"}, allowed={"data", "folder", "parent"})
        _check("predict", self.predict, needed=set(), allowed={"folder"})


def fit(
    dataset: TrainingSet, parent: Path | None, config: Config, progress: Progress, folder: Path
) -> Mapping[str, Any]:
    """Run the program that trains; the report is what it prints as ``{"report": {…}}``."""
    own = {"folder": folder.resolve() / FILES, "parent": parent and parent.resolve() / FILES}
    return _own.fit(
        dataset,
        config,
        config.predict,
        progress,
        folder,
        lambda data: _words(config.fit, data=data, **own),
    )


def load(folder: Path) -> Predictor:
    """Start the program that answers."""
    own = _own.read_own(folder)
    return _own.Answers(own, _words(own.predict, folder=folder.resolve() / FILES))


def _words(command: str, **places: Path | None) -> list[str]:
    """The words of a command with its places filled in."""
    texts = {f"{{{name}}}": str(place or "") for name, place in places.items()}
    return [
        re.sub(r"\{\w+\}", lambda found: texts.get(found[0], found[0]), word)
        for word in shlex.split(command)
    ]


def _check(field: str, command: str, needed: set[str], allowed: set[str]) -> None:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ValueError(f"{field}: must be a command, got {command!r} ({error})") from None
    if not words:
        raise ValueError(f"{field}: must be a command, got {command!r}")
    named = set(re.findall(r"\{(\w+)\}", command))
    if not needed <= named <= allowed:
        places = ", ".join(f"{{{name}}}" for name in sorted(allowed))
        must = " and ".join(f"{{{name}}}" for name in sorted(needed)) or "no other place"
        raise ValueError(f"{field}: must have {must}, out of {places}, got {command!r}")
