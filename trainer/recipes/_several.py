"""A fit in several processes: torchrun starts them, each runs the same recipe, the first writes."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from headrace import errors
from headrace.model.recipe import Progress, TrainingSet
from headrace.trainer.recipes._program import Program

LONGEST_S = 30 * 86_400.0
# Not `-m`: the processes find modules where this one does.
_SCRIPT = """\
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from headrace.trainer.recipes._several import work
work(sys.argv[2])
"""


class Work(msgspec.Struct, frozen=True):
    """What each process is told; `config` has one process, as each of them is."""

    recipe: str
    dataset: TrainingSet
    parent: str | None
    config: dict[str, Any]
    folder: str


def fit_in_processes(
    recipe: str,
    count: int,
    dataset: TrainingSet,
    parent: Path | None,
    config: Any,
    progress: Progress,
    folder: Path,
) -> Mapping[str, Any]:
    """Return the report of a fit of `recipe` by `count` processes on this machine.

    Raises:
        HeadraceError: as the recipe does.
        ModelError: a process died.
    """
    alone = {**msgspec.to_builtins(config), "processes": 1}
    before = str(parent.resolve()) if parent else None
    told = Work(recipe, dataset, before, alone, str(folder.resolve()))
    with TemporaryDirectory(prefix="headrace-processes-") as place:
        script, work = Path(place) / "script.py", Path(place) / "work.json"
        script.write_text(_SCRIPT)
        work.write_bytes(msgspec.json.encode(told))
        program = Program(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
                *("--nproc-per-node", str(count), str(script), json.dumps(sys.path), str(work)),
            ],
            ends_with_thread=True,
        )
        said: dict[str, Any] = {}

        def hear(line: bytes) -> bool:
            try:
                one = json.loads(line)
            except ValueError:
                return False
            if "step" in one:
                progress(one["step"], one["steps"], one["loss"])
            else:
                said.update(one)
            return True

        try:
            program.finish(LONGEST_S, hear)
        except errors.ModelError as error:
            why = said.get("died") or error
            raise errors.ModelError(f"one of {count} processes ended: {why}") from None
    if "error" in said:
        raise getattr(errors, said["kind"])(said["error"])
    report: dict[str, Any] = said["report"]
    return {**report, "processes": count}


def work(place: str) -> None:
    """Run one process of a fit; the first one prints how far it is, and the report."""
    from headrace.model import parallel
    from headrace.trainer.recipes import find

    told = msgspec.json.decode(Path(place).read_bytes(), type=Work)
    parent = Path(told.parent) if told.parent else None
    try:
        parallel.join()
        try:
            recipe = find(told.recipe)
            config = msgspec.convert(told.config, recipe.Config)
            report = recipe.fit(told.dataset, parent, config, _say_step, Path(told.folder))
            _say({"report": report})
        except errors.HeadraceError as error:
            _say({"error": str(error), "kind": type(error).__name__})
        parallel.leave()
    except Exception as error:
        print(json.dumps({"died": f"{type(error).__name__}: {error}"}), flush=True)
        raise


def _say_step(step: int, steps: int, loss: float | None = None) -> None:
    _say({"step": step, "steps": steps, "loss": loss})


def _say(said: Mapping[str, Any]) -> None:
    from headrace.model.parallel import is_first

    if is_first():
        print(json.dumps(said), flush=True)
