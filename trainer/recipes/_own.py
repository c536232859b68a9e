"""What `python` and `command` share: a program fits a version, another one answers for it.

A version's folder holds ``own.json`` and the folder ``files``, which is what the programs are told
to write into and to read. A program that fits prints how far it is, a program that answers reads a
line of JSON for each batch and writes one:

    {"step": 3, "steps": 10, "loss": 0.21}         how far it is; the loss may be left out
    {"report": {"trees": 120}}                     what is to be said of the training
    [{"text": "", "segment": "eu", "age": 31}, …]  a batch, with the columns of `model/table.py`
    [[0.2, 0.8], …]                                its answer; {"error": "why"} where it has none
"""

from __future__ import annotations

import json
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.errors import ModelError, StoppedError, shorten
from headrace.model.inputs import Example
from headrace.model.recipe import Progress, Task, TrainingSet
from headrace.model.table import Columns
from headrace.trainer.recipes._program import Program

TASKS: tuple[Task, ...] = ("classification", "regression", "ranking", "preference")
NEEDS = ("pandas", "pyarrow")
OWN, FILES = "own.json", "files"
# A version is given this long to be loaded, before its first answer.
LOAD_TIMEOUT_S = 120.0
# A program that died so many seconds after its start, or sooner, is not started again at once:
# other models wait for it.
PAUSE_S = 5.0
SUM_TOLERANCE = 1e-3  # of the probabilities of one example

Seconds = Annotated[float, msgspec.Meta(gt=0, le=604_800)]


class _Config(Protocol):
    """The settings that both recipes have."""

    @property
    def timeout_s(self) -> float: ...

    @property
    def predict_timeout_s(self) -> float: ...


class Own(msgspec.Struct, frozen=True, kw_only=True):
    """What a version knows of itself: ``own.json``."""

    model: str
    task: Task
    labels: tuple[str, ...]
    seed: int
    columns: Columns
    predict: str
    predict_timeout_s: float


def fit(
    dataset: TrainingSet,
    config: _Config,
    predict: str,
    progress: Progress,
    folder: Path,
    command: Callable[[Path], Sequence[str]],
) -> Mapping[str, Any]:
    """Run `command`, given a Parquet file with the training set; return what it reports.

    `predict` is kept for `load`: which function or program answers.

    Raises:
        ModelError: the program fails, or leaves something else than files.
    """
    import pyarrow.parquet as pq

    columns = Columns.of(dataset)
    own = Own(
        model=dataset.model,
        task=dataset.task,
        labels=dataset.labels,
        seed=dataset.seed,
        columns=columns,
        predict=predict,
        predict_timeout_s=config.predict_timeout_s,
    )
    (folder / OWN).write_bytes(msgspec.json.encode(own))
    (folder / FILES).mkdir()
    told = _Told(progress)
    with tempfile.TemporaryDirectory(prefix="headrace-") as place:
        data = Path(place) / "data.parquet"
        pq.write_table(columns.table(dataset), data)
        try:
            program = Program(command(data), ends_with_thread=True)
            program.finish(config.timeout_s, told)
        except ModelError as error:
            raise ModelError(f"training of {dataset.model}: the program {error}") from None
    for path in (folder / FILES).rglob("*"):
        if not stat.S_ISREG(mode := path.lstat().st_mode) and not stat.S_ISDIR(mode):
            raise ModelError(f"a version must hold files only, got a link or a pipe: {path.name}")
    return told.report


def read_own(folder: Path) -> Own:
    """Return what a version knows of itself.

    Raises:
        ModelError: it is missing or cannot be read.
    """
    try:
        return msgspec.json.decode((folder / OWN).read_bytes(), type=Own)
    except (OSError, msgspec.DecodeError) as error:
        raise ModelError(f"{folder.name} lacks a readable {OWN}: {error}") from None


class Answers:
    """A version whose answers come from a program that goes on running.

    One batch is asked at a time, by whatever thread. A program that died is started again.

    Attributes:
        labels, features: as `Predictor` has them.

    Raises:
        ModelError: the program cannot answer for an example of which nothing is known.
    """

    def __init__(self, own: Own, command: Sequence[str]) -> None:
        self.labels = own.labels
        self.features = tuple(own.columns.features)
        self._own = own
        self._command = command
        self._lock = threading.Lock()
        self._program: Program | None = None
        self._started_at = float("-inf")
        self.predict([Example()])

    def predict(self, examples: Sequence[Example]) -> NDArray[np.float64]:
        """Return probabilities, (n, labels), or values, (n,).

        Raises:
            ModelError: the program fails, or its answer is of another shape.
            StoppedError: it ended, takes too long or does not answer in JSON.
        """
        shape = (len(examples), len(self.labels)) if self.labels else (len(examples),)
        if not examples:
            return np.zeros(shape)
        line = json.dumps(self._own.columns.rows(examples)).encode()
        with self._lock:
            answer = self._ask(line)
        if isinstance(answer, dict) and "error" in answer:
            raise ModelError(f"predict of {self._own.model}: {answer['error']}")
        try:
            found = np.array(answer, dtype=np.float64)
        except (ValueError, TypeError):
            found = np.zeros(0)
        if found.shape != shape:
            what = "a list of {} probabilities" if self.labels else "a number"
            raise ModelError(
                f"predict of {self._own.model}: must give {what.format(len(self.labels))} for each "
                f"of {len(examples)} rows, got {found.shape if found.size else shorten(answer)}"
            )
        if self.labels:
            _check_probabilities(self._own.model, found)
        return found

    def _ask(self, line: bytes) -> Any:
        timeout_s = self._own.predict_timeout_s
        program, self._program = self._program, None  # what fails is not asked again
        if is_new := program is None or not program.is_running:
            since = time.monotonic() - self._started_at
            if since < PAUSE_S:
                raise StoppedError(
                    f"predict of {self._own.model}: the program died {since:.0f} s after its "
                    f"start, and is started again {PAUSE_S:.0f} s after it"
                )
            program = Program(self._command)
            timeout_s += LOAD_TIMEOUT_S
        try:
            answer = json.loads(said := program.ask(line, timeout_s))
        except ModelError as error:
            raise StoppedError(f"predict of {self._own.model}: the program {error}") from None
        except ValueError:
            raise StoppedError(
                f"predict of {self._own.model}: must write a line of JSON for each that it reads, "
                f"got {shorten(said.decode(errors='replace'))}"
            ) from None
        finally:
            if is_new:
                self._started_at = time.monotonic()
        self._program = program
        return answer


def _check_probabilities(model: str, found: NDArray[np.float64]) -> None:
    """Refuse what are no probabilities; what is no number is left to whoever asks."""
    known = found[np.isfinite(found).all(1)]
    wrong = (known < 0).any(1) | (np.abs(known.sum(1) - 1) > SUM_TOLERANCE)
    if wrong.any():
        got = shorten(known[wrong][0].tolist())
        raise ModelError(
            f"predict of {model}: must give probabilities, which sum to 1 for each row, got {got}"
        )


class _Told:
    """Understands what a program that fits prints."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.report: Mapping[str, Any] = {}

    def __call__(self, line: bytes) -> bool:
        try:
            match json.loads(line, parse_constant=lambda _: None):
                case {"step": int(step), "steps": int(steps), "loss": int(loss) | float(loss)}:
                    self._progress(step, steps, loss)
                case {"step": int(step), "steps": int(steps)}:
                    self._progress(step, steps)
                case {"report": dict(report)}:
                    self.report = report
                case _:
                    return False
        except (ValueError, TypeError):
            return False
        return True
