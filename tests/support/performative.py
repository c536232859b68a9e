"""What performative_check should hold: NumPy over one cell a prediction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from headrace.events.contract import Inference, ModelEvent
from tests.support.label_oracle import REWARDS, utc
from tests.support.oracle import Oracle, as_class
from tests.support.rewards import Row, floor, in_order, mixture_p, recent
from tests.support.units import GROUPS, LEAST, group_of

DAY = 86_400
MIN_SAMPLE = 2
ALPHA = 0.05
Cells = list[tuple[datetime, bool, bool, bool]]  # day, is held back, since the promotion, success


def champion_since(told: list[ModelEvent], model: str) -> datetime | None:
    latest: dict[str, ModelEvent] = {}
    for life in in_order(told):
        if life.model == model:
            latest[life.model_version] = life
    led = in_order(life for life in latest.values() if life.event == "promoted")
    return utc(led[-1].event_time) if led else None


def effect_of_count(events: Iterable[Inference]) -> float | None:
    """How much a number of labels varies, by groups of units."""
    units = [(e.user_id or e.session_id, e.request_id) for e in events]
    if not units:
        return None
    if not any(unit for unit, _ in units):
        return 1.0
    counts = Counter(group_of(unit or request) for unit, request in units)
    sums = np.array([*counts.values()] + [0] * (GROUPS - len(counts)), float)
    size = float(sums.sum() ** 2 / (sums**2).sum())
    if size < LEAST:
        return None
    ratio = float(sums.var(ddof=1) / sums.mean())
    return 1 + max(ratio - 1, 0) * size / (size - 3)


def effect_of_share(events: list[Inference], is_success: list[bool]) -> float | None:
    """How much the share of one label varies, by groups of units."""
    units = [(e.user_id or e.session_id, e.request_id) for e in events]
    if not any(unit for unit, _ in units):
        return 1.0
    groups = np.array([group_of(unit or request) for unit, request in units])
    success = np.array(is_success, float)
    names, at = np.unique(groups, return_inverse=True)
    trials = np.bincount(at)
    size = float(trials.sum() ** 2 / (trials**2).sum())
    if size < LEAST:
        return None
    share = float(success.mean())
    if share in (0, 1):
        return 1.0
    squares = sum(float((success[groups == name] - share).sum()) ** 2 for name in names)
    ratio = squares * GROUPS / (GROUPS - 1) / (len(events) * share * (1 - share))
    return 1 + max(ratio - 1, 0) * size / (size - 3)


def effects_of_label(
    whole: list[Inference], classes: dict[str, str | None], label: str
) -> tuple[float, float] | None:
    """The greater one of the sides that have the label, for both."""
    found = []
    for side in (False, True):
        events = [e for e in whole if is_held(e) is side and classes.get(e.request_id) is not None]
        is_success = [classes[e.request_id] == label for e in events]
        if any(is_success):
            found.append(effect_of_share(events, is_success))
    known = [effect for effect in found if effect is not None]
    return (max(known), max(known)) if len(known) == len(found) else None


def contrast(cells: Cells, effects: tuple[float, float] | None) -> dict[str, Any]:
    """Within days and periods: the difference, and what a test of it needs."""
    served, held = ([c for c in cells if c[1] is side] for side in (False, True))
    strata = {(c[0], c[2]) for c in served} & {(c[0], c[2]) for c in held}
    found: dict[str, Any] = {"least": min(len(served), len(held)), "difference": None, "v": None}
    if not strata:
        return found
    groups = [
        [[c[3] for c in side if (c[0], c[2]) == s] for side in (served, held)] for s in strata
    ]
    w = np.array([len(a) * len(b) / (len(a) + len(b)) for a, b in groups])
    d = np.array([np.mean(a) - np.mean(b) for a, b in groups])
    found["difference"] = found["careful"] = float(np.average(d, weights=w))
    for sign, side in ((1, served), (-1, held)):
        share = float(np.mean([c[3] for c in side]))
        found["careful"] += sign * (0.5 - share) / (len(side) + 1)
    if effects is not None:
        both = spread([*served, *held])
        found["v"] = sum(
            max(both, spread(side))
            * effect
            * float((w**2 / [len(group[at]) for group in groups]).sum() / w.sum() ** 2)
            for at, (side, effect) in enumerate(zip((served, held), effects, strict=True))
        )
    return found


def spread(cells: Cells) -> float:
    p = (sum(c[3] for c in cells) + 0.5) / (len(cells) + 1)
    return p * (1 - p)


def share(cells: Cells, is_held: bool, is_since: bool | None = None) -> float | None:
    side = [c[3] for c in cells if c[1] is is_held and is_since in (None, c[2])]
    return float(np.mean(side)) if side else None


def moved(cells: Cells, is_held: bool) -> float | None:
    now, then = share(cells, is_held, True), share(cells, is_held, False)
    return None if now is None or then is None else now - then


def row_of(cells: Cells, effects: tuple[float, float] | None) -> Row:
    whole = contrast(cells, effects)
    now, then = (contrast([c for c in cells if c[2] is since], effects) for since in (True, False))
    has_periods = min(now["least"], then["least"]) >= MIN_SAMPLE
    row: Row = {
        "share": share(cells, False),
        "holdout_share": share(cells, True),
        "difference": whole["difference"],
        "difference_p_value": None,
        "share_moved": moved(cells, False),
        "holdout_share_moved": moved(cells, True),
        "shift": None,
        "shift_p_value": None,
    }
    if whole["v"] and whole["least"] >= MIN_SAMPLE:
        row["difference_p_value"] = mixture_p(whole["careful"], whole["v"], 0.01)
    if has_periods and None not in (now["difference"], then["difference"]):
        row["shift"] = now["difference"] - then["difference"]
        if now["v"] and then["v"]:
            careful = now["careful"] - then["careful"]
            row["shift_p_value"] = mixture_p(careful, now["v"] + then["v"], 0.01)
    return row


def checks(oracle: Oracle, told: list[ModelEvent]) -> dict[str, Row]:
    """Rows by model, with all that was tested as `outcomes`."""
    rows: dict[str, Row] = {}
    for model in {event.model for event in oracle.inference.values()}:
        served = [e for e in oracle.of(model) if e.variant != "shadow"]
        shown = [e for e in served if recent(oracle, model, utc(e.event_time))]
        if any(e.variant == "holdout" for e in shown):
            since = champion_since(told, model) or oracle.clock(model) + timedelta(hours=1)
            whole = [
                e
                for e in served
                if floor(utc(e.event_time), DAY) + timedelta(days=31) > oracle.clock(model)
            ]
            rows[model] = check(oracle, shown, whole, since)
        elif shown:
            rows[model] = {"status": "no holdout", "halts": False, "measure": None}
    return rows


def check(oracle: Oracle, shown: list[Inference], whole: list[Inference], since: datetime) -> Row:
    """The row of a model with a holdback, of what counts by the hour and by the day."""
    labels = {e.request_id: oracle.settled.get(e.request_id) for e in whole}
    sides = [
        effect_of_count(e for e in whole if labels[e.request_id] and is_held(e) is side)
        for side in (False, True)
    ]
    effects = None if sides[0] is None or sides[1] is None else (sides[0], sides[1])
    classes = {
        e.request_id: as_class(held.label)
        for e in whole
        if (held := labels[e.request_id]) and oracle.kind(e) not in REWARDS
    }
    places = {
        e.request_id: (
            floor(utc(e.event_time), DAY),
            is_held(e),
            floor(utc(e.event_time), 3600) >= since,
        )
        for e in shown
    }
    outcomes: dict[tuple[str, str | None], Cells] = {
        ("feedback", None): [(*at, labels[name] is not None) for name, at in places.items()]
    }
    named = {name: classes[name] for name in places if classes.get(name) is not None}
    for label in set(named.values()):
        outcomes["label", label] = [(*places[name], named[name] == label) for name in named]
    found: dict[tuple[str, str | None], Row] = {}
    for (measure, label), cells in outcomes.items():
        both = effects if label is None else effects_of_label(whole, classes, label)
        told = sides if label is None else both or (None, None)
        found[measure, label] = row_of(cells, both) | {
            "design_effect": told[0], "holdout_design_effect": told[1]
        }  # fmt: skip
    values = [p for row in found.values() for p in p_values(row)]
    row: Row = {
        "p_value": min(1, len(values) * min(values)) if values else None,
        "tests": len(values),
        "outcomes": found,
    }
    for prefix, side in (("", False), ("holdout_", True)):
        mine = [name for name, at in places.items() if at[1] is side]
        row[f"{prefix}predictions"] = len(mine)
        row[f"{prefix}labels"] = sum(labels[name] is not None for name in mine)
    if min(row["labels"], row["holdout_labels"]) < MIN_SAMPLE:
        row["status"] = "too few labels"
    elif row["p_value"] is None:
        row["status"] = "too few users" if effects is None else "too few labels"
    else:
        row["status"] = "feeds back" if row["p_value"] < ALPHA else "none"
    return row


def is_held(event: Inference) -> bool:
    return event.variant == "holdout"


def p_values(row: Row) -> list[float]:
    return [row[n] for n in ("difference_p_value", "shift_p_value") if row[n] is not None]
