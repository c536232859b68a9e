"""Online learning: the champion's head takes a step whenever labels have come in.

Each step is a version (v4.1, v4.2, …). The score is prequential: every label is predicted before it
is learned (Gama, Sebastião & Rodrigues 2013, "On evaluating stream learning algorithms"). Where the
steps do worse than the version that they began from, by more than chance, that version serves again
and learning rests until a run has trained another one.
"""

from __future__ import annotations

import logging
import random
import shutil
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from headrace.control.claims import learns
from headrace.control.lease import try_session_lock
from headrace.control.lifecycle import promote
from headrace.declared import Declared, Online
from headrace.engine import Engine
from headrace.errors import HeadraceError, one_line
from headrace.events.labels import class_of
from headrace.model.artifact import STEP, Manifest, artifact_path, family, written_folders
from headrace.model.recipe import Predictor, TrainingExample
from headrace.trainer.paired import FLOOR, Gain
from headrace.trainer.progress import Say
from headrace.trainer.recipes import find, load
from headrace.trainer.steps import Base, champion_of, copy_weights, example_of, publish_step

log = logging.getLogger(__name__)

POLL_S = 0.1
REST_S = 5.0  # while another trainer learns, or after an error
OVERLAP = timedelta(seconds=5)  # batches are committed side by side
WINDOW = 500  # labels that the score is over
LEAST, ALPHA = 100, 0.001  # of the check against the version they began from, at every step
DRAFT_S = 3_600  # after which a draft was left by a process that died
REMEMBERED = 20_000  # labels, so that none is learned twice

_NEW = """
select
    labels.request_id, labels.item_id, labels.label, labels.arrived_at,
    inference.event_time, inference.segment, inference.features, inference.input,
    inference.user_id
from panes.labels as labels
inner join events.inference as inference
    on
        labels.request_id = inference.request_id
        and labels.model = inference.model
        and labels.item_id is not distinct from inference.item_id
where labels.model = %s and labels.arrived_at > %s and labels.variant != 'shadow'
    and labels.kind != 'default'
order by labels.arrived_at
limit %s
"""


@dataclass(slots=True)
class _Serving:
    """The champion, and the version of its family that a run trained."""

    base: Base
    predictor: Predictor
    anchor: Predictor
    resting: bool = False


class OnlineLearner:
    """Learns one model online, as long as no other trainer does.

    Args:
        declared: with `online`.
        say: is given a line for a person.
    """

    def __init__(self, engine: Engine, model: str, declared: Declared, say: Say) -> None:
        assert declared.online is not None
        self.engine, self.model, self.declared, self._say = engine, model, declared, say
        self.settings: Online = declared.online
        self._serving: _Serving | None = None
        self._newest_event: str | None = None
        self._rolling = False
        self._since: datetime | None = None
        self._seen: OrderedDict[tuple[str, str | None, str], None] = OrderedDict()
        self._reservoir: list[TrainingExample] = []
        self._offered = 0
        self._random = random.Random(0)
        self._learned_to = 0.0  # the latest event time among what was learned, in unix seconds
        self._scores: deque[tuple[float, float, bool]] = deque(maxlen=WINDOW)

    def run(self, stop: threading.Event) -> None:
        """Learn until `stop` is set, whatever fails meanwhile."""
        while not stop.is_set():
            try:
                with self.engine.connect(application_name="headrace online") as lock:
                    held = try_session_lock(lock, f"headrace online {self.model}")
                    while held and not stop.is_set():
                        lock.execute("select 1")  # a lost connection is a lost lock
                        began = time.monotonic()
                        if self.step():
                            stop.wait(max(0.0, began + self.settings.every_s - time.monotonic()))
                        else:
                            stop.wait(POLL_S)
            except (HeadraceError, psycopg.Error, OSError) as error:
                log.warning("online learning of %s rests: %s", self.model, one_line(error))
                self._serving = None
            stop.wait(REST_S)

    def step(self) -> bool:
        """Learn what labels have come in, if any; return whether a version was published."""
        serving = self._follow()
        if serving is None or serving.resting or self._rolling:
            return False
        new = self._new_labels(serving.base.manifest)
        if not new:
            return False
        self._score(serving, new)
        if self._is_worse():
            self._go_back(serving)
            return False
        if not learns(self.engine, self.model):
            return False
        self._publish(serving, new)
        return True

    def _is_rolling(self) -> bool:
        """Whether a version is compared with the champion, which stays as it is meanwhile."""
        query = (
            "select 1 as one from headrace.rolling_versions where model = %s and not is_overtaken"
        )
        return bool(self.engine.rows(query, [self.model]))

    def _follow(self) -> _Serving | None:
        """The champion; it is read again when another event than ours is the newest."""
        rows = self.engine.rows(
            "select event_id from events.model_events where model = %s "
            "order by ingested_at desc, event_id desc limit 1",
            [self.model],
        )
        newest = rows[0]["event_id"] if rows else None
        if newest != self._newest_event:
            self._newest_event = newest
            self._rolling = self._is_rolling()
            self._start(champion_of(self.engine, self.model))
        return self._serving

    def _start(self, base: Base | None) -> None:
        """Go on from a champion."""
        before, self._serving = self._serving, None
        if base is None or not hasattr(find(base.manifest.recipe), "update"):
            return
        if base.manifest.task != "classification":
            return
        if before and before.base.model_version == base.model_version:
            self._serving = before
            return
        root = family(base.model_version)
        same_family = before is not None and family(before.base.model_version) == root
        if before is None or not same_family:
            self._scores.clear()
            anchor = load(self._folder_of(root) or base.folder)[1]
        else:
            anchor = before.anchor
        self._serving = _Serving(base, load(base.folder)[1], anchor)
        if self._since is None:
            self._fill(base)

    def _folder_of(self, version: str) -> Path | None:
        rows = self.engine.rows(
            "select artifact_uri from events.model_events where model = %s "
            "and model_version = %s and artifact_uri is not null limit 1",
            [self.model, version],
        )
        root = self.engine.settings.artifacts_path
        return artifact_path(rows[0]["artifact_uri"], root) if rows else None

    def _fill(self, base: Base) -> None:
        """Begin after the labels that there are; the newest of them are the first to replay."""
        rows = self.engine.rows(
            "select max(arrived_at) as newest from panes.labels where model = %s", [self.model]
        )
        newest = rows[0]["newest"]
        (now,) = self.engine.rows("select clock_timestamp() as now")
        recent = _NEW.replace("order by labels.arrived_at", "order by labels.arrived_at desc")
        long_ago = datetime.fromtimestamp(0, now["now"].tzinfo)
        for row in self.engine.rows(recent, [self.model, long_ago, self.settings.reservoir]):
            self._remember(row)
            self._offer(self._example(row, base.manifest))
        self._since = newest or now["now"]

    def _new_labels(self, manifest: Manifest) -> list[TrainingExample]:
        """Labels that came in and were not learned, the oldest first."""
        assert self._since is not None
        since = self._since - OVERLAP
        rows = self.engine.rows(_NEW, [self.model, since, self.settings.batch + len(self._seen)])
        fresh = [row for row in rows if self._key(row) not in self._seen][: self.settings.batch]
        for row in fresh:
            self._remember(row)
            self._since = max(self._since, row["arrived_at"])
            self._learned_to = max(self._learned_to, row["event_time"].timestamp())
        known = set(map(class_of, manifest.labels))
        return [self._example(row, manifest) for row in fresh if class_of(row["label"]) in known]

    def _key(self, row: dict[str, Any]) -> tuple[str, str | None, str]:
        return row["request_id"], row["item_id"], row["label"]

    def _remember(self, row: dict[str, Any]) -> None:
        self._seen[self._key(row)] = None
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)

    def _example(self, row: dict[str, Any], manifest: Manifest) -> TrainingExample:
        example = example_of(row).given(manifest.features, manifest.ids)
        return TrainingExample(example, row["label"], request_id=row["request_id"])

    def _score(self, serving: _Serving, new: Sequence[TrainingExample]) -> None:
        """Predict the labels before they are learned, by the champion and by its anchor."""
        examples = [one.example for one in new]
        ours, theirs = (one.predict(examples) for one in (serving.predictor, serving.anchor))
        columns = [class_of(label) for label in serving.base.manifest.labels]
        for row, one in enumerate(new):
            column = columns.index(class_of(one.label))
            loss, before = (-float(np.log(max(p[row, column], FLOOR))) for p in (ours, theirs))
            self._scores.append((loss, before, int(ours[row].argmax()) == column))

    def _is_worse(self) -> bool:
        if len(self._scores) < LEAST:
            return False
        loss, before, _ = np.array(self._scores).T
        gain = Gain.of(before - loss, float(before.mean()))
        return gain is not None and gain.value < 0 and gain.chance() < ALPHA

    def _go_back(self, serving: _Serving) -> None:
        loss, before, _ = np.array(self._scores).mean(0)
        root = family(serving.base.model_version)
        reason = (
            f"the steps from it did worse: log loss {loss:.4f}, its own {before:.4f} "
            f"on the last {len(self._scores)} labels"
        )
        if root != serving.base.model_version:
            promote(self.engine, self.model, root, reason=reason)
        self._say(f"{self.model}: {root} serves again, {reason}")
        serving.resting = True

    def _publish(self, serving: _Serving, new: Sequence[TrainingExample]) -> None:
        settings, base = self.settings, serving.base
        count = min(settings.replay, len(self._reservoir))
        replayed = self._random.sample(self._reservoir, count)
        recipe: Any = find(base.manifest.recipe)

        def make(draft: Path) -> Manifest:
            copy_weights(base.folder, draft)
            recipe.update(
                base.folder, [*new, *replayed], draft, rate=settings.rate, steps=settings.steps
            )
            return base.manifest

        loss, before, right = np.array(self._scores).mean(0)
        metrics = {
            "prequential_log_loss": float(loss),
            "prequential_accuracy": float(right),
            "prequential_labels": len(self._scores),
            "anchor_log_loss": float(before),
            "train_to": max(self._learned_to, float(base.metrics.get("train_to") or 0.0)),
        }
        reason = f"{len(new)} new label{'' if len(new) == 1 else 's'}"
        step = publish_step(self.engine, base, make, reason=reason, metrics=metrics)
        serving.base, serving.predictor = step, load(step.folder)[1]
        self._newest_event = step.event_id
        for one in new:
            self._offer(one)
        self._collect(step)
        self._say(f"{self.model}: {step.model_version} serves, {reason}, log loss {loss:.4f}")

    def _offer(self, one: TrainingExample) -> None:
        """Keep an example with the chance that every other one has (Vitter 1985, algorithm R)."""
        self._offered += 1
        if len(self._reservoir) < self.settings.reservoir:
            self._reservoir.append(one)
        elif (place := self._random.randrange(self._offered)) < self.settings.reservoir:
            self._reservoir[place] = one

    def _collect(self, newest: Base) -> None:
        """Remove the folders of steps beyond the newest `keep`."""
        found = written_folders(self.engine.settings.artifacts_path, self.model)
        steps = [path for path, _ in found if STEP.match(path.name)]
        steps.sort(key=lambda path: path.stat().st_mtime)
        drafts = [path for path, run in found if run.run_id.startswith("step-v")]
        left = [path for path in drafts if path.name.startswith(".") and _age(path) > DRAFT_S]
        for path in [*steps[: -self.settings.keep], *left]:
            if path != newest.folder:
                shutil.rmtree(path, ignore_errors=True)


def _age(path: Path) -> float:
    return time.time() - path.stat().st_mtime
