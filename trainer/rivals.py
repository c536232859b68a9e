"""Who a candidate has to beat: the champion, what was logged of another server, or a guess."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from headrace.events.labels import class_of
from headrace.model.artifact import family
from headrace.model.examination import CLIP, UNKNOWN, Examination
from headrace.model.examples import LabeledExample
from headrace.model.recipe import Predictor, Task
from headrace.trainer.answers import judged_classes, logged_classes, measured, prior_of
from headrace.trainer.compare import Pairs

Rows = Sequence[LabeledExample]


@dataclass(frozen=True, slots=True)
class Rival:
    """A version to beat.

    Attributes:
        pairs: what the candidate and this one answer to some examples.
        is_champion: whether it is loaded, so that it can be asked about old examples.
        has_scores: whether its answers are probabilities or numbers, and not classes alone.
    """

    name: str
    pairs: Callable[[Predictor, Rows], Pairs]
    is_champion: bool = False
    has_scores: bool = True


def rival_of(
    task: Task,
    champion: tuple[str, Predictor] | None,
    incumbent: str | None,
    train: Rows,
    newest: Rows,
    positive: str | None,
    untrained: Predictor | None = None,
    examination: Examination = UNKNOWN,
) -> Rival:
    """The rival: `champion`, if it knows most of the newest labels; else `incumbent`, a version of
    another server, by its logged answers; else the untrained model, or a guess by the labels of
    `train` alone. `examination` is of the positions of a ranking.

    A champion that learned online knows the newest labels by now, so it is measured by what it
    answered before, too.
    """
    learned_since = champion is not None and incumbent == family(champion[0]) != champion[0]
    if champion is not None and not learned_since:
        name, version = champion
        known = set(map(class_of, version.labels))
        strange = sum(class_of(row.label) not in known for row in newest) if version.labels else 0
        if 2 * strange <= len(newest):
            return Rival(name, _against(task, version, examination), is_champion=True)
    if incumbent is not None and task not in ("preference", "generation"):
        if task == "classification":
            logged = logged_classes(incumbent, positive)
            scores = any(
                row.logged is not None
                and (row.logged.probabilities or row.logged.score is not None)
                for row in newest
            )
            return Rival(
                f"{incumbent}, as it was logged",
                lambda ours, rows: judged_classes(rows, ours, logged),
                has_scores=scores,
            )
        return Rival(
            f"{incumbent}, as it was logged",
            lambda ours, rows: measured(task, rows, ours, incumbent, examination=examination),
        )
    if task == "classification":
        prior = prior_of(train)
        return Rival(
            "the prior", lambda ours, rows: judged_classes(rows, ours, prior, by_segment=False)
        )
    if untrained is not None:
        return Rival("the base model", _against(task, untrained, examination))
    guess = _guess(task, train, examination)
    return Rival(
        "the prior",
        lambda ours, rows: measured(
            task, rows, ours, guess, by_segment=False, examination=examination
        ),
    )


def incumbent_of(rows: Rows) -> str | None:
    """The version that, with its steps, answered most of `rows` when they were asked, if any."""
    answered = Counter(family(row.logged.model_version) for row in rows if row.logged is not None)
    name, count = max(answered.items(), key=lambda one: one[1], default=("", 0))
    return name if 2 * count > len(rows) else None


def _against(
    task: Task, version: Predictor, examination: Examination
) -> Callable[[Predictor, Rows], Pairs]:
    if task == "classification":
        return lambda ours, rows: judged_classes(rows, ours, version)
    return lambda ours, rows: measured(task, rows, ours, version, examination=examination)


def _guess(task: Task, train: Rows, examination: Examination) -> float:
    """The best answer that is the same for all."""
    if task == "preference":
        return 0.0
    numbers = [float(row.label) for row in train]
    if task == "regression":
        return median(numbers)
    return sum(numbers) / sum(examination.looked_at(train, CLIP))
