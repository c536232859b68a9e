"""The view text_drift once more, naively: plain Python, SciPy and all events."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import compress
from typing import Any

import numpy as np
from scipy import stats
from scipy.special import xlogy

from headrace.events.contract import Inference, input_text
from tests.support.distances import distances, ks_p_value, number_bins
from tests.support.drift_oracle import DAY, HOUR, DriftOracle, at
from tests.support.oracle import Row, bucket, hour
from tests.support.samples import window_from

PLACES = 256
BETWEEN = re.compile(r"[\x01-@\[-`{-¿\u2000-\u206f\u3000-\u303f\uff00-\uff20]+")


def texts(event: Inference) -> Iterator[tuple[str, str]]:
    """Yield the fields of a prediction that are texts, and these."""
    for field in ("input", "output"):
        if text := input_text(getattr(event, field)):
            yield field, text
    found = [(k, v) for k, v in event.features.items() if isinstance(v, str) and is_text(v)]
    for name, text in sorted(found, key=lambda pair: pair[0].encode())[:8]:
        yield f"features.{name}", text


def is_text(value: str) -> bool:
    return len(value) > 40 and (" " in value or has_no_spaces(value))


def has_no_spaces(text: str) -> bool:
    return len(text.encode()) > 2 * len(text)


def places(text: str) -> set[int]:
    """The places of the words of a text."""
    words = BETWEEN.sub(" ", lower(text[:400]))
    found = list(words) if has_no_spaces(text) else words.split(" ")
    return {place(word) for word in found[:64] if word.strip(" ")}


def lower(text: str) -> str:
    """As a database of the locale C does it."""
    return "".join(c.lower() if c.isascii() else c for c in text)


def place(word: str) -> int:
    return int(hashlib.md5(word.encode()).hexdigest()[:2], 16)


def documents(sides: list[set[int]]) -> Any:
    """How many of these texts have a word in each place."""
    found = np.zeros(PLACES)
    for held in sides:
        found[list(held)] += 1
    return found


def likelihood_ratio(a: float, n: float, b: float, m: float) -> float:
    """Twice the logarithm of the likelihood ratio of two proportions, half a row moved."""
    share = (a + b) / (n + m)
    moved = float(np.clip(share * n - a, -0.5, 0.5))
    a, b = a + moved, b - moved
    table = [(a, share * n), (n - a, n - share * n), (b, share * m), (m - b, m - share * m)]
    return max(2 * sum(float(xlogy(x, x / e)) for x, e in table if e > 1e-12), 0)


def vocabulary(old: list[set[int]], new: list[set[int]]) -> Row:
    """The distances of words, given as the places of each text."""
    found = distances([p for side in old for p in side], [p for side in new for p in side])
    row: Row = {f"vocabulary_{name}": found[name] for name in ("psi", "psi_excess")}
    row |= {"vocabulary_p_value": None, "cosine_distance": None}
    a, b = documents(old), documents(new)
    if not old or not new or not found["bins"]:
        return row
    used = [place for place in range(PLACES) if a[place] + b[place]]
    most = max(likelihood_ratio(a[p], len(old), b[p], len(new)) for p in used)
    row["vocabulary_p_value"] = min(1, len(used) * 2 * float(stats.norm.sf(math.sqrt(most))))
    if min(len(old), len(new)) < 2:
        return row
    squares = 1.0
    for counts, n in ((a, len(old)), (b, len(new))):
        p = counts / n
        squares *= max(float((p * p - p * (1 - p) / (n - 1)).sum()), 0)
    if squares > 0:
        cosine = float((a * b).sum()) / len(old) / len(new) / math.sqrt(squares)
        row["cosine_distance"] = min(max(1 - cosine, 0), 1)
    return row


class TextOracle(DriftOracle):
    """What text_drift should hold, by model and field."""

    def hours(self, model: str) -> tuple[list[Inference], list[Inference]]:
        """The predictions of reference and current window, in whole hours."""
        events = self.predictions(model)
        old, new = self.sides(model, map(at, events))
        return list(compress(events, old)), list(compress(events, new))

    def sides(self, model: str, times: Iterable[datetime]) -> tuple[list[bool], list[bool]]:
        """Which times are in reference and current window, in whole hours."""
        start, end = self.reference(model)
        clock = self.oracle.clock(model)
        since = window_from(
            clock, self.policies.drift_window, hour(clock) - 2 * DAY, self.samples(model)
        )
        since = hour(min(max(since, end), clock))
        last = max(hour(end - HOUR), hour(start))
        hours = list(map(hour, times))
        return [hour(start) <= one <= last for one in hours], [
            one >= since and one > end for one in hours
        ]

    def text_drift(self) -> dict[tuple[str, str], Row]:
        rows = {}
        for model in self.models:
            sides = [[dict(texts(event)) for event in side] for side in self.hours(model)]
            found = {}
            for field in {field for side in sides for held in side for field in held}:
                old, new = ([held[field] for held in side if field in held] for side in sides)
                found[field] = self._texts(old, new)
            p_values = ("length_chi_square_p_value", "length_ks_p_value", "vocabulary_p_value")
            tests = sum(
                row[p] is not None
                for row in found.values()
                if min(row["reference_rows"], row["current_rows"]) >= self.policies.min_sample
                for p in p_values
            )
            for field, row in found.items():
                self._judge_text(row, tests)
                rows[model, field] = row
        return rows

    def _texts(self, old: list[str], new: list[str]) -> Row:
        lengths = [[bucket(len(text)) for text in side] for side in (old, new)]
        found = distances(*number_bins(*lengths))
        row: Row = {f"length_{name}": found[name] for name in ("psi", "psi_excess")}
        row["length_chi_square_p_value"] = found["p_value"]
        row |= {"length_ks": None, "length_ks_p_value": None}
        if old and new:
            row["length_ks"] = stats.ks_2samp(*lengths).statistic
            row["length_ks_p_value"] = ks_p_value(row["length_ks"], len(old), len(new))
        row |= {"reference_rows": len(old), "current_rows": len(new)}
        return row | vocabulary(*([places(text) for text in side] for side in (old, new)))

    def _judge_text(self, row: Row, tests: int) -> None:
        parts = [("vocabulary", "vocabulary_p_value"), ("length", "length_chi_square_p_value")]
        sure = [name for name, p in parts if tests and self._is_sure(row[p], tests)]
        excesses = [row[f"{name}_psi_excess"] for name in sure or ("vocabulary", "length")]
        row["psi_excess"] = max((x for x in excesses if x is not None), default=None)
        row["tests"] = tests
        is_apart = (
            row["length_ks"] is not None
            and row["length_ks"] >= 0.1
            and self._is_sure(row["length_ks_p_value"], tests)
        )
        row["status"] = self._status(row, bool(sure), is_apart)
        row["reference_texts"] = row.pop("reference_rows")
        row["current_texts"] = row.pop("current_rows")
