"""The trainer: look at the trigger view, claim what is due, see it through, look again."""

from __future__ import annotations

import logging
import os
import socket
import threading

import psycopg

from headrace.engine import Engine
from headrace.errors import EngineError
from headrace.features import FeatureReader
from headrace.log import EventLog
from trainer.claim import Claim, Heartbeat, claim, due_triggers
from trainer.publish import announce
from trainer.run import NothingToLearnError, Outcome, Progress, Workshop, train

log = logging.getLogger(__name__)

# RisingWave says of all that is wrong, also of what passes by itself, that it is an internal error:
# a run that met one is tried again when its lease has run out, this often in all.
MAX_ATTEMPTS = 3


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
            try:
                worked = self.run_once()
            except (EngineError, psycopg.Error) as error:
                log.warning("the database does not answer, trying again: %s", error)
                worked = False
            if not worked:
                stop.wait(self.engine.settings.poll_s)

    def run_once(self) -> bool:
        """Take one due trigger and see it through; false when there was none to take."""
        for trigger in due_triggers(self.engine):
            held = claim(self.engine, trigger, self.worker)
            if held is not None:
                self._progress(f"{trigger.trigger_id}: {trigger.reason}")
                with Heartbeat(self.engine, held) as heartbeat:
                    self._run(held, heartbeat)
                return True
        return False

    def _run(self, held: Claim, heartbeat: Heartbeat) -> None:
        try:
            outcome = train(self.shop, held, self._progress)
        except (EngineError, psycopg.OperationalError):
            raise
        except Exception as error:
            if isinstance(error, psycopg.InternalError) and held.attempt < MAX_ATTEMPTS:
                raise
            if not isinstance(error, NothingToLearnError):
                log.exception("run %s failed", held.run_id)
            reason = f"{type(error).__name__}: {error}"[:2_000]
            outcome = Outcome(f"failed-{held.run_id}", None, False, reason, {}, None)
        if not heartbeat.beat():
            log.warning("%s was taken over; this run publishes nothing", held.trigger_id)
            return
        announce(
            self._log, held, outcome.model_version,
            promoted=outcome.promoted, parent=outcome.parent, artifact=outcome.artifact,
            metrics=outcome.metrics, reason=outcome.reason,
        )  # fmt: skip
        heartbeat.finish()
        word = "promoted" if outcome.promoted else "rejected"
        self._progress(f"{outcome.model_version} {word}: {outcome.reason}")
