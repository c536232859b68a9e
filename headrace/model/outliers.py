"""Examples that look wrong: numbers far out, texts sent again and again, and contrary users."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from headrace.events.labels import class_of
from headrace.model.examples import LabeledExample

Flags = NDArray[np.bool_]

FAR = 10.0  # robust standard deviations
REPEATS, WITHIN = 5, timedelta(minutes=10)
OTHERS, SHARED, SURE = 3, 5, 1e-3  # votes on an item, items of a user, chance of a false alarm


def outliers(rows: Sequence[LabeledExample]) -> dict[str, Flags]:
    """Return which of the rows are outliers, (n,), by the kind of outlier."""
    found = {"numbers": _far_out(rows), "spam": _spam(rows), "contrary": _contrary(rows)}
    return {
        kind: np.isin(np.arange(len(rows)), np.fromiter(set(numbers), int))
        for kind, numbers in found.items()
    }


def _far_out(rows: Sequence[LabeledExample]) -> Iterator[int]:
    """Rows with a number more than FAR from the median, in deviations estimated by the MAD.

    It is taken on the signed logarithm, as the network reads numbers (Iglewicz & Hoaglin 1993,
    "How to detect and handle outliers"). A number of which half are equal has no far ends.
    """
    columns: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
    for at, row in enumerate(rows):
        for name, value in row.example.features.items():
            # no booleans, no NaN, and no integer that is too large for a float
            if type(value) in (int, float) and abs(value) < 1e300:  # type: ignore[arg-type]
                columns[name].append((at, float(value)))  # type: ignore[arg-type]
    for column in columns.values():
        places, values = zip(*column, strict=True)
        logs = np.sign(values) * np.log1p(np.abs(values))
        distance = np.abs(logs - np.median(logs))
        deviation = 1.4826 * np.median(distance)
        if deviation > 1e-9:
            yield from np.array(places)[distance > FAR * deviation].tolist()


def _spam(rows: Sequence[LabeledExample]) -> Iterator[int]:
    """Rows whose text the same user sent REPEATS times WITHIN a short time; not the first one."""
    sent: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for at, row in enumerate(rows):
        if row.user_id is not None and row.example.text:
            sent[row.user_id, row.example.text].append(at)
    for places in sent.values():
        places.sort(key=lambda at: rows[at].event_time)
        for first, last in zip(places, places[REPEATS - 1 :], strict=False):
            if rows[last].event_time - rows[first].event_time <= WITHIN:
                start = places.index(first)
                yield from places[start + 1 : start + REPEATS]


def _contrary(rows: Sequence[LabeledExample]) -> Iterator[int]:
    """Rows of users who contradict what most others say of the same items.

    An item is an `item_id`, or else a text. A user is contrary who contradicts the majority of
    OTHERS or more on most of SHARED items or more, and so often that, at the rate at which users
    do, chance would have it for any user in SURE of such sets (Bonferroni).
    """
    said: defaultdict[str, dict[str, str]] = defaultdict(dict)  # item, user: the newest label
    for row in rows:
        item = row.item_id or row.example.text
        if item and row.user_id is not None:
            said[item][row.user_id] = class_of(row.label)
    shared, against = Counter[str](), Counter[str]()
    for labels in said.values():
        votes = Counter(labels.values())
        for user, label in labels.items() if len(labels) > OTHERS else ():
            others = votes - Counter([label])
            (most, count), total = others.most_common(1)[0], others.total()
            if 2 * count > total:
                shared[user] += 1
                against[user] += most != label
    if not against.total():
        return
    from scipy.special import bdtrc

    rate = min(0.5, against.total() / shared.total())
    contrary = {
        user
        for user, items in shared.items()
        if items >= SHARED
        and 2 * against[user] > items
        and bdtrc(against[user] - 1, items, rate) < SURE / len(shared)
    }
    yield from (at for at, row in enumerate(rows) if row.user_id in contrary)
