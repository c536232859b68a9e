"""How far a run is: lines for a person, and one row that the views show."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from headrace.control.claims import Claim
from headrace.engine import Engine
from headrace.errors import one_line

log = logging.getLogger(__name__)

Say = Callable[[str], None]
Keep = Callable[[Mapping[str, Any]], None]
EVERY_S = 2.0  # between two lines, and two rows


class RunProgress:
    """Is told the stages of a run and the steps of a recipe.

    Args:
        say: is given a line for a person.
        keep: is given `stage`, `step`, `steps`, `loss`, `examples_per_s` and `eta_s`.
    """

    def __init__(
        self,
        say: Say,
        keep: Keep = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._say, self._keep, self._clock = say, keep, clock
        self._stage, self._examples = "", 0
        self._told = 0.0
        self._first: tuple[float, int] | None = None  # when which step was done

    def stage(self, name: str, examples: int = 0) -> None:
        """A stage begins; its steps go over `examples` once in all, as far as that is known."""
        self._stage, self._examples = name, examples
        self._told, self._first = self._clock(), None
        self._keep(self._row(None, None, None))

    def __call__(self, step: int, steps: int, loss: float | None = None) -> None:
        """Step `step` of `steps` is done."""
        now = self._clock()
        if self._first is None or step < self._first[1]:
            self._first = (now, step)
        if step < steps and now - self._told < EVERY_S:
            return
        self._told = now
        row = self._row(step, steps, loss)
        said = "" if loss is None else f", loss {loss:.3f}"
        left = f", {row['eta_s']:.0f} s left" if row["eta_s"] else ""
        self._say(f"{self._stage}: step {step:,} of {steps:,}{said}{left}")
        self._keep(row)

    def _row(self, step: int | None, steps: int | None, loss: float | None) -> dict[str, Any]:
        # What the first step waited for, such as imports, tells nothing of the others.
        since, begun = self._first or (self._told, 0)
        took, done = self._told - since, (step or begun) - begun
        steps_per_s = done / took if took > 0 and done else None
        return {
            "stage": self._stage,
            "step": step,
            "steps": steps,
            "loss": loss,
            "examples_per_s": steps_per_s and steps and steps_per_s * self._examples / steps,
            "eta_s": steps_per_s and steps and step and (steps - step) / steps_per_s,
        }


def kept_in(engine: Engine, claim: Claim) -> Keep:
    """Return what writes progress to ``control.training_progress``; it never fails."""
    started = datetime.now(UTC)

    def keep(row: Mapping[str, Any]) -> None:
        known = {
            "run_id": claim.run_id,
            "attempt": claim.attempt,
            "model": claim.model,
            "trigger_id": claim.trigger_id,
            "started_at": started,
            "updated_at": datetime.now(UTC),
        }
        try:
            with engine.writing() as connection:
                table, key = "control.training_progress", ["run_id", "attempt"]
                engine.dialect.put(connection, table, key, [{**known, **row}])
        except Exception as error:
            log.warning("the progress of %s is not kept: %s", claim.run_id, one_line(error))

    return keep
