"""The trainer: look at the trigger view, claim what is due, see it through, look again."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from dataclasses import replace

import psycopg

from headrace.control.claims import Claim, Heartbeat, Trigger, claim, due_triggers, learns, pass_on
from headrace.engine import Engine
from headrace.errors import (
    ContractError,
    EngineError,
    HeadraceError,
    ModelError,
    NothingToLearnError,
)
from headrace.events.log import EventLog
from headrace.features.reader import FeatureReader
from headrace.trainer.publish import announce
from headrace.trainer.run import Outcome, Progress, Workshop, train

log = logging.getLogger(__name__)

# What may pass by itself: the database is away, or is RisingWave, which calls all that is wrong an
# internal error. Such a run is tried again when its lease has run out, and so is one whose trainer
# died, this often in all.
MAY_PASS = (EngineError, psycopg.OperationalError, psycopg.InternalError)
MAX_ATTEMPTS = 3
# How many times as long as it looked the trainer rests, at least: the view is computed when it is
# asked, and is not to keep an engine busy.
REST = 3


class Trainer:
    """Runs what the trigger view asks for, one run at a time. A context manager.

    Args:
        engine: the database with the trigger view.
        progress: called with one line for a person whenever something was done.
    """

    def __init__(self, engine: Engine, progress: Progress = log.info) -> None:
        self.engine = engine
        self.worker = f"{socket.gethostname()}:{os.getpid()}:{id(self):x}"
        self.shop = Workshop(engine, FeatureReader(engine), [])
        self._progress = progress
        self._log = EventLog(engine)
        self._passed_on: set[str] = set()  # ids of the triggers that are due

    def __enter__(self) -> Trainer:
        self._log.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what is still to be written."""
        self._log.close()
        self.shop.reader.close()

    def watch(self, stop: threading.Event) -> None:
        """Poll the trigger view until `stop` is set; a database that is away is waited for."""
        while not stop.is_set():
            began = time.monotonic()
            try:
                worked = self.run_once()
            except (EngineError, psycopg.Error) as error:
                log.warning("the database does not answer, trying again: %s", error)
                worked = False
            if not worked:
                stop.wait(max(self.engine.settings.poll_s, REST * (time.monotonic() - began)))

    def run_once(self) -> bool:
        """Take one due trigger and see it through; false when there was none to take."""
        due = due_triggers(self.engine)
        self._pass_on(due)
        for trigger in due:
            held = claim(self.engine, trigger, self.worker)
            if held is not None:
                self._progress(f"{trigger.trigger_id}: {trigger.reason}")
                with Heartbeat(self.engine, held) as heartbeat:
                    self._run(held, heartbeat)
                return True
        return False

    def _pass_on(self, due: list[Trigger]) -> None:
        pass_on(self.engine, [each for each in due if each.trigger_id not in self._passed_on])
        self._passed_on = {each.trigger_id for each in due}

    def _run(self, held: Claim, heartbeat: Heartbeat) -> None:
        outcome = self._outcome(held)
        if not heartbeat.beat():
            log.warning("%s was taken over; this run publishes nothing", held.trigger_id)
            return
        if outcome.promoted and not learns(self.engine, held.model):
            reason = f"not promoted, the model is watched only by now ({outcome.reason})"
            outcome = replace(outcome, promoted=False, reason=reason, artifact=None)
        refusal = self._announce(held, outcome)
        if refusal is not None:
            outcome = _failed(held, refusal)
            self._announce(held, outcome)
        heartbeat.finish()
        word = "promoted" if outcome.promoted else "rejected"
        self._progress(f"{outcome.model_version} {word}: {outcome.reason}")

    def _outcome(self, held: Claim) -> Outcome:
        """Run it; what fails is rejected with the reason, so that no model is tried for ever."""
        if held.attempt > MAX_ATTEMPTS:
            gone = ModelError(f"{MAX_ATTEMPTS} attempts ended without a verdict; see the logs")
            return _failed(held, gone)
        try:
            return train(self.shop, held, self._progress)
        except Exception as error:
            if isinstance(error, MAY_PASS) and held.attempt < MAX_ATTEMPTS:
                raise
            if not isinstance(error, NothingToLearnError):
                log.exception("run %s failed", held.run_id)
            return _failed(held, error)

    def _announce(self, held: Claim, outcome: Outcome) -> HeadraceError | None:
        """Tell what a run came to; return why that is no event, if so."""
        try:
            announce(
                self._log, held, outcome.model_version,
                promoted=outcome.promoted, parent=outcome.parent, artifact=outcome.artifact,
                metrics=outcome.metrics, reason=outcome.reason,
            )  # fmt: skip
        except (ContractError, ModelError) as error:
            log.exception("run %s cannot be announced", held.run_id)
            return error
        return None


def _failed(held: Claim, error: Exception) -> Outcome:
    reason = f"{type(error).__name__}: {error}".replace("\0", "")[:2_000]
    return Outcome(f"failed-{held.run_id}", None, False, reason, {}, None)
