"""Which of a run's rows are trained on, and how much each counts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from headrace.events.labels import class_of
from headrace.model.examples import LabeledExample
from headrace.model.inputs import Example
from headrace.model.outliers import outliers

Floats = NDArray[np.floating[Any]]
Rows = NDArray[np.intp]
Score = Callable[[Sequence[Example]], Floats]

MAX_NAMED = 20  # flagged examples in a report
DAY_S = 86_400
OLDEST = 30  # half-lives; what is older has a weight of 1e-9, too


class Sampling(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which examples a version is trained on, and how much each counts.

    Attributes:
        examples: how many at most; 0: all.
        recent: share of them that are the newest.
        by: how the others are chosen: `reservoir` at random, `uncertainty` those that the champion
            is least sure about, `balance` as many of each class.
        weights: `balance` has each class count the same, `propensity` divides by the logged
            probability of the prediction.
        clip: the largest weight of `propensity`, and so the most that one example counts.
        half_life: days after which an example counts half as much; 0: age does not matter.
        per_user: requests of one user at most, chosen at random; 0: any number.
        duplicates: `merge` makes one example, which counts as many, of those with the same text,
            segment, features and label.
        outliers: they are counted; `drop` also leaves them out.
    """

    examples: Annotated[int, Meta(ge=0)] = 0
    recent: Annotated[float, Meta(ge=0, le=1)] = 0.5
    by: Literal["reservoir", "uncertainty", "balance"] = "reservoir"
    weights: Literal["none", "balance", "propensity"] = "none"
    clip: Annotated[float, Meta(ge=1)] = 10.0
    half_life: Annotated[float, Meta(ge=0)] = 0.0
    per_user: Annotated[int, Meta(ge=0)] = 0
    duplicates: Literal["keep", "merge"] = "keep"
    outliers: Literal["keep", "drop"] = "keep"


@dataclass(frozen=True, slots=True)
class Sampled:
    """What is trained on.

    Attributes:
        weights: of the rows, (n,); their mean is 1.
        report: counts, for the model card.
        shift: for each class, what is added to its logit so that a model that learned from these
            rows gives probabilities as frequent as the classes are. Empty where nothing is.
    """

    rows: list[LabeledExample]
    weights: Floats
    report: dict[str, Any]
    shift: Mapping[str, float]


def sample(
    rows: Sequence[LabeledExample], sampling: Sampling, seed: int, score: Score | None = None
) -> Sampled:
    """Choose and weigh `rows`, which are sorted by time; the same seed gives the same sample.

    `score` gives the parent's probabilities, (n, labels). Classes that were balanced are brought
    back to their true shares by `shift`, the prior correction of King & Zeng 2001, "Logistic
    regression in rare events data". Propensities are clipped as in Swaminathan & Joachims 2015,
    "Batch learning from logged bandit feedback".
    """
    rng = np.random.default_rng(seed)
    report: dict[str, Any] = {"given": len(rows)}
    at = np.arange(len(rows))
    flagged = outliers(rows)
    either = np.any([*flagged.values()], axis=0)
    report |= {kind: int(flags.sum()) for kind, flags in flagged.items()}
    report["flagged"] = [rows[one].request_id for one in at[either][:MAX_NAMED]]
    if sampling.outliers == "drop":
        at, report["dropped"] = at[~either], int(either.sum())
    if sampling.per_user:
        before = len(at)
        at = _capped(rows, at, sampling.per_user, rng)
        report["over_cap"] = before - len(at)
    groups = _same(rows, at)
    report["conflicting"] = sum(len({one for one, *_ in labels}) > 1 for labels in groups.values())
    weights = np.ones(len(rows))
    if sampling.duplicates == "merge":
        before = len(at)
        at = _merged(groups, weights)
        report["merged"] = before - len(at)
    weights *= _usual(rows, sampling)
    classes = np.array([class_of(row.label) for row in rows])
    chosen, said = _chosen(rows, at, classes, sampling, rng, score)
    report |= said
    true = _shares(classes[at], weights[at])
    if sampling.weights == "balance":
        sums = _shares(classes[chosen], weights[chosen])
        weights /= np.array([sums.get(one, 1.0) for one in classes])
    weights = weights[chosen] / (weights[chosen].mean() if len(chosen) else 1.0)
    shift: dict[str, float] = {}
    if sampling.weights == "balance" or (said.get("by") == "balance"):
        trained = _shares(classes[chosen], weights)
        shift = {one: float(np.log(true[one] / share)) for one, share in trained.items()}
    report |= {
        "kept": len(chosen),
        "effective": round(float(weights.sum() ** 2 / (weights**2).sum()), 1) if len(chosen) else 0,
        "shift": {one: round(value, 3) for one, value in shift.items()},
    }
    report = {name: value for name, value in report.items() if value or name in ("given", "kept")}
    return Sampled([rows[one] for one in chosen], weights, report, shift)


def ranks_within(classes: NDArray[Any], keys: Floats) -> Rows:
    """How many of its own class come before each row by the keys, (n,).

    The rows with the lowest ranks have as many of each class as there are.
    """
    order = np.lexsort((keys, classes))
    _, first, inverse = np.unique(classes[order], return_index=True, return_inverse=True)
    ranks = np.empty(len(classes), dtype=np.intp)
    ranks[order] = np.arange(len(classes)) - first[inverse]
    return ranks


def _chosen(
    rows: Sequence[LabeledExample],
    at: Rows,
    classes: NDArray[Any],
    sampling: Sampling,
    rng: np.random.Generator,
    score: Score | None,
) -> tuple[Rows, dict[str, Any]]:
    """The rows to train on, by time, and what is said of them."""
    if not sampling.examples or len(at) <= sampling.examples:
        return at, {}
    _, request = np.unique([row.request_id for row in rows], return_inverse=True)
    last = np.zeros(len(rows), dtype=np.intp)
    np.maximum.at(last, request, np.arange(len(rows)))
    newest = _first(at, -last[request[at]], round(sampling.recent * sampling.examples), request)
    older = np.setdiff1d(at, newest)
    # The rows with the smallest of random keys are a reservoir sample (Vitter 1985, "Random
    # sampling with a reservoir"): uniform, whenever the stream ends.
    order: Floats = rng.random(len(rows))[request[older]]
    said: dict[str, Any] = {"newest": len(newest), "by": sampling.by}
    if sampling.by == "balance":
        order = ranks_within(classes[older], order).astype(np.float64)
    elif sampling.by == "uncertainty" and score is not None:
        order = _margins(score([rows[one].example for one in older]))
    elif sampling.by == "uncertainty":
        said["by"] = "reservoir, as there is no parent whose uncertainty is known"
    drawn = _first(older, order, sampling.examples - len(newest), request)
    return np.sort(np.concatenate([newest, drawn])), said


def _first(at: Rows, order: Floats | Rows, count: int, request: Rows) -> Rows:
    """The `count` rows of the lowest order; a request of which some are not among them has none."""
    ranked = at[np.argsort(order, kind="stable")]
    return ranked[:count][~np.isin(request[ranked[:count]], request[ranked[count : count + 1]])]


def _margins(p: Floats) -> Floats:
    """Between the two most likely classes (Scheffer, Decomain & Wrobel 2001, "Active HMMs")."""
    likely = np.sort(p, axis=1)
    margins: Floats = likely[:, -1] - (likely[:, -2] if p.shape[1] > 1 else 0.0)
    return margins


def _capped(rows: Sequence[LabeledExample], at: Rows, most: int, rng: np.random.Generator) -> Rows:
    """The rows of at most so many requests of each user; those without a user are kept."""
    ids, first, request = np.unique(
        [rows[one].request_id for one in at], return_index=True, return_inverse=True
    )
    users = np.array([rows[one].user_id or f"\0{one}" for one in at[first]])
    return at[(ranks_within(users, rng.random(len(ids))) < most)[request]]


def _same(rows: Sequence[LabeledExample], at: Rows) -> dict[Any, dict[Any, list[int]]]:
    """The rows by their content, then by their label. Items of a ranked list keep their request."""
    groups: defaultdict[Any, dict[Any, list[int]]] = defaultdict(dict)
    for one in at.tolist():
        row = rows[one]
        features = frozenset((name, repr(value)) for name, value in row.example.features.items())
        place = None if row.position is None else (row.request_id, row.position)
        content = (row.example.text, row.example.segment, features, place)
        label = (class_of(row.label), row.rejected, row.propensity)
        groups[content].setdefault(label, []).append(one)
    return groups


def _merged(groups: Mapping[Any, Mapping[Any, list[int]]], weights: Floats) -> Rows:
    """The newest row of each content and label, whose weight becomes the number of them."""
    kept = []
    for labels in groups.values():
        for same in labels.values():
            kept.append(same[-1])
            weights[same[-1]] = len(same)
    return np.array(sorted(kept), dtype=np.intp)


def _usual(rows: Sequence[LabeledExample], sampling: Sampling) -> Floats:
    """Weights by age and propensity, (n,)."""
    weights = np.ones(len(rows))
    if sampling.half_life and rows:
        times = np.array([row.event_time.timestamp() for row in rows])
        ages = (times.max() - times) / (DAY_S * sampling.half_life)
        weights *= 0.5 ** np.minimum(ages, OLDEST)
    if sampling.weights == "propensity":
        logged = np.array([row.propensity or 1.0 for row in rows])
        weights *= np.minimum(1 / logged, sampling.clip)
    return weights


def _shares(classes: NDArray[Any], weights: Floats) -> dict[str, float]:
    totals = Counter[str]()
    for one, weight in zip(classes.tolist(), weights.tolist(), strict=True):
        totals[one] += weight
    whole = totals.total()
    return {one: total / whole for one, total in totals.items()}
