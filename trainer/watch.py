"""The trainer: poll the trigger view, claim what is due, train and publish, poll again."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import psycopg

from headrace.control.claims import (
    Claim,
    Heartbeat,
    Trigger,
    claim,
    learns,
    pass_on,
    wanted_triggers,
)
from headrace.control.history import note_alerts, note_triggers
from headrace.declared import Declared, apply, read_declared
from headrace.engine import Engine
from headrace.errors import (
    ContractError,
    EngineError,
    LostClaimError,
    ModelError,
    NothingToLearnError,
    SettingError,
)
from headrace.features.reader import FeatureReader
from headrace.model.artifact import Run, draft_folder
from headrace.settings import FEATURE_SERVICE
from headrace.trainer.brief import read_brief
from headrace.trainer.online import OnlineLearner
from headrace.trainer.progress import RunProgress, Say, kept_in
from headrace.trainer.publish import MAY_PASS, clean_up, publish
from headrace.trainer.run import Outcome, failed, train

log = logging.getLogger(__name__)

# A run that ends in an error that may pass is tried again once its lease has run out, and so is one
# whose trainer died; MAX_ATTEMPTS in all.
MAX_ATTEMPTS = 3
# The trainer rests at least this many times as long as its last look took: the view is computed
# whenever it is read, and must not keep an engine busy.
REST = 3
# Seconds between two looks at the alerts.
ALERTS_EVERY_S = 60.0
# Longest rest after errors that nothing foresaw; it begins with a second and doubles.
LONGEST_REST_S = 60.0


class Trainer:
    """Runs what the trigger view asks for, one run at a time. A context manager.

    Args:
        engine: the database with the trigger view.
        progress: called with one line for a person after each step.
    """

    def __init__(self, engine: Engine, progress: Say = log.info) -> None:
        self.engine = engine
        self.worker = f"{socket.gethostname()}:{os.getpid()}:{id(self):x}"
        self._readers = {FEATURE_SERVICE: FeatureReader(engine)}
        self._progress = progress
        self._passed_on: set[str] = set()  # ids of the triggers that are due
        self._next_look = 0.0  # at the alerts, by time.monotonic
        self._declared: dict[str, Declared] = {}
        self._read: bytes | None = None  # of the file of declarations
        self._online: dict[str, tuple[Declared, threading.Event, threading.Thread]] = {}

    def __enter__(self) -> Trainer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop learning online, and close what reads features."""
        for model in [*self._online]:
            self._stop_online(model)
        for reader in self._readers.values():
            reader.close()

    def watch(self, stop: threading.Event) -> None:
        """Poll the trigger view until `stop` is set, whatever fails meanwhile."""
        rest = 0.0
        while not stop.is_set():
            began = time.monotonic()
            try:
                self._look_at_alerts()
                self._look_at_declarations()
                worked = self.run_once()
                rest = 0.0
            except (EngineError, psycopg.Error) as error:
                log.warning("the database does not answer, trying again: %s", error)
                worked = False
            except Exception:
                rest = min(max(1.0, 2 * rest), LONGEST_REST_S)
                log.exception("the trainer goes on in %.0f s", rest)
                worked = False
            if not worked:
                took = time.monotonic() - began
                stop.wait(max(self.engine.settings.poll_s, REST * took, rest))

    def run_once(self) -> bool:
        """Claim one due trigger, train and publish; false when there was none to claim."""
        wanted = wanted_triggers(self.engine)
        note_triggers(self.engine, wanted)
        due = [trigger for trigger in wanted if trigger.is_due]
        self._pass_on(due)
        for trigger in due:
            held = claim(self.engine, trigger, self.worker)
            if held is not None:
                self._progress(f"{trigger.trigger_id}: {trigger.reason}")
                with Heartbeat(self.engine, held) as heartbeat:
                    self._run(held, heartbeat)
                return True
        return False

    def _look_at_alerts(self) -> None:
        if time.monotonic() >= self._next_look:
            note_alerts(self.engine)
            self._next_look = time.monotonic() + ALERTS_EVERY_S

    def _look_at_declarations(self) -> None:
        """Read the file again when it has changed; one with a mistake changes nothing."""
        path = self.engine.settings.models_path
        text = path.read_bytes() if path.is_file() else b""
        if text != self._read:
            self._read = text
            try:
                self.declare()
            except (SettingError, ContractError) as error:
                log.error("the declarations stay as they were: %s", error)
            self._learn_online()

    def _learn_online(self) -> None:
        """Have a thread for each model that is declared with `online`."""
        wanted = {name: one for name, one in self._declared.items() if one.online}
        for model in [*self._online]:
            if wanted.get(model) != self._online[model][0]:
                self._stop_online(model)
        for model in wanted.keys() - self._online.keys():
            stop = threading.Event()
            learner = OnlineLearner(self.engine, model, wanted[model], self._progress)
            thread = threading.Thread(
                target=learner.run, args=[stop], name=f"online {model}", daemon=True
            )
            thread.start()
            self._online[model] = (wanted[model], stop, thread)

    def _stop_online(self, model: str) -> None:
        _, stop, thread = self._online.pop(model)
        stop.set()
        thread.join()

    def declare(self) -> None:
        """Take over what ``headrace.toml`` declares.

        Raises:
            SettingError, ContractError: the file has a mistake.
        """
        path = self.engine.settings.models_path
        declared = read_declared(path)
        for model, one in declared.items():
            try:
                self._reader(one.feature_service)
            except SettingError as error:
                raise SettingError(f"{path.name}: models.{model}.feature_{error}") from None
        for line in apply(self.engine, declared):
            self._progress(line)
        self._declared = declared

    def _reader(self, service: str) -> FeatureReader:
        """Return the reader of a service, made anew where the definitions have changed.

        Raises:
            SettingError: there is no such service, or it cannot be read.
        """
        reader = self._readers.get(service)
        if reader is None or not reader.is_current:
            self._readers[service] = FeatureReader(self.engine, service)
            if reader is not None:
                reader.close()
        return self._readers[service]

    def _pass_on(self, due: list[Trigger]) -> None:
        pass_on(self.engine, [each for each in due if each.trigger_id not in self._passed_on])
        self._passed_on = {each.trigger_id for each in due}

    def _run(self, held: Claim, heartbeat: Heartbeat) -> None:
        """Train; then, if the claim is still ours, publish the outcome and end the claim."""
        with suppress(OSError):
            clean_up(self.engine, held)
        root, run = self.engine.settings.artifacts_path, Run(held.run_id, held.attempt)
        with ExitStack() as stack:
            try:
                folder = stack.enter_context(draft_folder(root, held.model, run))
            except OSError as error:
                outcome = failed(held, error)
            else:
                outcome = self._train(held, folder)
            self._finish(held, heartbeat, outcome)

    def _finish(self, held: Claim, heartbeat: Heartbeat, outcome: Outcome) -> None:
        if outcome.promoted and not learns(self.engine, held.model):
            reason = f"not promoted, the model is watched only by now ({outcome.reason})"
            outcome = replace(outcome, promoted=False, reason=reason)
        try:
            if not heartbeat.beat():
                raise LostClaimError(held.trigger_id)
            outcome = self._publish(heartbeat, outcome)
        except LostClaimError:
            log.warning("%s was taken over; this run publishes nothing", held.trigger_id)
            return
        word = "promoted" if outcome.promoted else "rejected"
        if outcome.rolls_out:
            word = "trained, and rolls out"
        self._progress(f"{outcome.model_version} {word}: {outcome.reason}")

    def _train(self, held: Claim, folder: Path) -> Outcome:
        """Read the brief and train; an error that will not pass is an outcome, too."""
        dataset = None
        try:
            if held.attempt > MAX_ATTEMPTS:
                raise ModelError(f"{MAX_ATTEMPTS} attempts ended without a verdict; see the logs")
            declared = self._declared.get(held.model, Declared())
            keep = kept_in(self.engine, held)
            RunProgress(self._progress, keep).stage("compile")
            reader = self._reader(declared.feature_service)
            brief = read_brief(self.engine, held, reader, declared)
            dataset = brief.dataset
            return train(brief, folder, self._progress, keep)
        except Exception as error:
            if isinstance(error, MAY_PASS) and held.attempt < MAX_ATTEMPTS:
                raise
            if not isinstance(error, NothingToLearnError):
                log.exception("run %s failed", held.run_id)
            return failed(held, error, dataset)

    def _publish(self, heartbeat: Heartbeat, outcome: Outcome) -> Outcome:
        """Write the outcome, or where that cannot be, that it failed; return what was written."""
        run_id = heartbeat.claim.run_id
        try:
            return publish(self.engine, heartbeat, outcome)
        except (*MAY_PASS, LostClaimError):
            raise
        except Exception as error:
            log.exception("run %s cannot be published", run_id)
            outcome = failed(heartbeat.claim, error)
        try:
            return publish(self.engine, heartbeat, outcome)
        except (*MAY_PASS, LostClaimError):
            raise
        except Exception:
            # So does a claim whose model no longer has an allowed name.
            log.exception("run %s ends without an event", run_id)
            heartbeat.finish()
        return outcome
