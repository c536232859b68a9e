"""The demo's stream without services: what is known at each retrain, and what comes after it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import say, table
from headrace.control.claims import Claim
from headrace.declared import Declared
from headrace.demo.report import fit_tfidf, score, tfidf_words
from headrace.demo.run import FAST_MIN_NEW_LABELS, FAST_SHARE, MIN_NEW_LABELS, POLICIES
from headrace.demo.stream import MODEL, POSITIVE, reports, steps
from headrace.engine import Engine
from headrace.model.artifact import Run, draft_folder, publish_draft
from headrace.model.examples import LabeledExample
from headrace.model.inputs import Example
from headrace.model.recipe import Predictor
from headrace.trainer.brief import Brief, Champion, Marks
from headrace.trainer.dataset import dataset_of
from headrace.trainer.gate import GatePolicy
from headrace.trainer.recipes import load
from headrace.trainer.run import Outcome, train

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]

COOLDOWN = timedelta(days=int(POLICIES["cooldown"].split()[0]))


def run(_: Engine, quick: bool) -> str:
    """Return a table of the short form of the demo, from each report that it may start with."""
    rows = []
    for start in range(1 if quick else FAST_SHARE):
        with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
            found = replay(moments(start=start), Path(folder), Declared(), seed=start)
        say(f"moments: start {start}: {[outcome.promoted for outcome in found.outcomes]}")
        published = sum(outcome.promoted for outcome in found.outcomes)
        scores = [score(found.truth, one) for one in (found.loop, found.rival, found.frozen)]
        cells = [f"{one.auc:.4f} / {one.log_loss:.4f}" for one in scores]
        rows.append([start, published, len(found.truth), *cells])
    head = ["first report", "versions", "reports", "the loop", "TF-IDF refitted", "the first model"]
    return f"AUC / log loss; TF-IDF is refitted with each version.\n\n{table(head, rows)}"


@dataclass(frozen=True, slots=True)
class Moment:
    """A retrain that new labels made due.

    Attributes:
        at: the stream's clock.
        known: reports with the label that was known, oldest first.
        next: reports that came until the next moment, with the label that they have in the end.
    """

    at: datetime
    known: Sequence[LabeledExample]
    next: Sequence[LabeledExample]


def moments(fast: bool = True, start: int = 0, least: int = 0) -> list[Moment]:
    """Return every moment of the demo, or of its short form.

    `start` shifts which reports are taken of those that the short form leaves out; `least` is the
    number of new labels that makes a retrain due, 0 for that of the demo.
    """
    rows = reports()[start :: FAST_SHARE if fast else 1]
    least = least or (FAST_MIN_NEW_LABELS if fast else MIN_NEW_LABELS)
    asked: dict[str, LabeledExample] = {}
    labels: dict[str, tuple[str, datetime]] = {}
    last = {row["request_id"]: row["revised_technical_impact"] or row["technical_impact"]
            for row in rows}  # fmt: skip
    found: list[tuple[datetime, int, list[LabeledExample]]] = []
    new: set[str] = set()
    for step in steps(rows):
        request_id = step.body["request_id"]
        if step.kind == "predict":
            example = Example(step.body["input"], step.body["segment"], step.body["features"])
            asked[request_id] = LabeledExample(
                request_id, step.time, step.time, example, last[request_id]
            )
        else:
            labels[request_id] = step.body["label"], step.time
            new.add(request_id)
        cooled = not found or step.time >= found[-1][0] + COOLDOWN
        if cooled and len(new & asked.keys()) >= least:
            found.append((step.time, len(asked), list(_known(asked, labels))))
            new.clear()
    every = list(asked.values())
    ends = [count for _, count, _ in found[1:]] + [len(every)]
    return [
        Moment(at, known, every[count:end])
        for (at, count, known), end in zip(found, ends, strict=True)
    ]


def _known(
    asked: dict[str, LabeledExample], labels: dict[str, tuple[str, datetime]]
) -> Iterator[LabeledExample]:
    for request_id, row in asked.items():
        if request_id in labels:
            label, known_at = labels[request_id]
            yield LabeledExample(request_id, row.event_time, known_at, row.example, label)


@dataclass(frozen=True, slots=True)
class Replayed:
    """What was predicted while the runs of some moments decided what serves, oldest first.

    Attributes:
        truth: whether each report is of the positive label, (n,).
        loop, rival, frozen: the probability of it, (n,), by the version that served, by TF-IDF
            refitted with each published version, and by the first version.
        outcomes: of the runs.
    """

    truth: Flags
    loop: Floats
    rival: Floats
    frozen: Floats
    outcomes: Sequence[Outcome]


def replay(stream: Sequence[Moment], folder: Path, declared: Declared, seed: int = 0) -> Replayed:
    """Run the trainer at each moment, and let what it published answer until the next one."""
    champion: Champion | None = None
    spread: float | None = None
    outcomes: list[Outcome] = []
    answered: list[Floats] = []
    serving: tuple[Predictor, Any] | None = None
    first: Predictor | None = None
    for number, moment in enumerate(stream):
        claim = Claim(f"m/{number}", MODEL, "w", f"{seed}-{number}", 1, *[moment.at] * 3)
        dataset = dataset_of(claim.run_id, {}, moment.known)
        brief = Brief(
            claim, dataset, champion, POSITIVE, GatePolicy(), folder, Marks(),
            declared=declared, spread=spread,
        )  # fmt: skip
        with draft_folder(folder, MODEL, Run(claim.run_id, 1)) as draft:
            outcome = train(brief, draft, lambda _: None)
            outcomes.append(outcome)
            if champion:
                spread = outcome.metrics["gate"].get("spread", spread)
            if outcome.promoted and outcome.candidate is not None:
                name = f"v{number + 1}"
                place = publish_draft(draft, MODEL, name, outcome.candidate.manifest, "")
                train_to = datetime.fromtimestamp(outcome.metrics["train_to"], UTC)
                champion = Champion(name, str(place), train_to)
                serving = load(place)[1], fit_tfidf(moment.known)
                first = first or serving[0]
        if serving is None or first is None or not moment.next:
            continue
        version, tfidf = serving
        examples = [row.example for row in moment.next]
        column = version.labels.index(POSITIVE)
        words = [tfidf_words(one.text, one.segment) for one in examples]
        answered.append(
            np.stack(
                [
                    [row.label == POSITIVE for row in moment.next],
                    version.predict(examples)[:, column],
                    tfidf.predict_proba(words)[:, 1],
                    first.predict(examples)[:, column],
                ]
            )
        )
    truth, loop, rival, frozen = np.concatenate(answered, axis=1)
    return Replayed(truth > 0, loop, rival, frozen, outcomes)
