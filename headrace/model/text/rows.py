"""Which examples a text classifier reads, and which are held out to weigh its parts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.model.corrections import input_key
from headrace.model.inputs import Example
from headrace.model.text.linear import Integers

SHARE = 5  # one example in so many is held out


def recent(count: int, most: int, seed: int) -> Integers:
    """Return at most `most` of the rows: half of them the newest, half drawn from the older."""
    if count <= most:
        return np.arange(count)
    newest = count - most // 2
    older = np.random.default_rng(seed).choice(newest, most - most // 2, replace=False)
    return np.concatenate([np.sort(older), np.arange(newest, count)])


def folds(examples: Sequence[Example], target: Integers, rows: Integers) -> list[Integers]:
    """Return SHARE parts of the rows, sorted, with as many of each class; the first is held out.

    Of a class of fewer than five it has none. A hash of the input chooses, so that what a version
    holds out was held out by its parent, too, up to the few at the edge: an adapter that starts
    from its parent's is not judged on what the parent has learned.
    """
    keys = np.array([input_key(examples[row]) for row in rows])
    order = rows[np.argsort(keys, kind="stable")]
    of_class = [order[target[order] == label] for label in np.unique(target[rows])]
    return [
        np.sort(np.concatenate([one[_part(part, len(one))] for one in of_class]))
        for part in range(SHARE)
    ]


def _part(part: int, count: int) -> slice:
    return slice(part * count // SHARE, (part + 1) * count // SHARE)
