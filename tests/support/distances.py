"""How far two samples are apart, naively: what the views of drift should say of them."""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np
from scipy import stats
from scipy.spatial.distance import jensenshannon

from tests.support.number_buckets import finest_buckets
from tests.support.oracle import is_number

Row = dict[str, Any]
# Of the smaller side: what would get less is one bin with all others that would.
RARE = 0.2
# What is not told from 0.
ROUNDING = 1e-9


def distances(old: Sequence[Hashable], new: Sequence[Hashable]) -> Row:
    """Distances of two samples of categories; those of nothing are None."""
    names = ("psi", "psi_excess", "js_divergence", "chi_square", "p_value", "cramers_v")
    row: Row = dict.fromkeys(names)
    counts = Counter(old), Counter(new)
    bins = list(counts[0].keys() | counts[1].keys())
    row["bins"] = len(bins)
    if not old or not new:
        return row
    table = np.array([[side[name] for name in bins] for side in counts], dtype=float)
    row["psi"] = psi(table)
    with np.errstate(invalid="ignore"):
        row["js_divergence"] = float(np.nan_to_num(jensenshannon(*table, base=2) ** 2))
    table = pooled(table)
    row["psi_excess"] = max(psi(table) - psi_by_chance(table), 0.0)
    row["chi_square"] = 0.0
    if table.shape[1] > 1:
        row["chi_square"] = float(stats.chi2_contingency(table, correction=False).statistic)
        row["p_value"] = p_value(table, row["chi_square"])
        row["cramers_v"] = math.sqrt(row["chi_square"] / table.sum())
    return row


def psi(table: Any) -> float:
    shares = (table + 0.5) / (table.sum(axis=1) + 0.5 * table.shape[1])[:, None]
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def psi_by_chance(table: Any) -> float:
    """Of every bin the variance of the difference of its smoothed shares, over its share.

    The rows of a bin on one side are hypergeometric where nothing changed.
    """
    n, m = table.sum(axis=1)
    k = table.shape[1]
    total = 0.0
    for rows in table.sum(axis=0):
        here = rows * n * m * (n + m - rows) / ((n + m) ** 2 * (n + m - 1))
        # The other side has the rest: their difference varies by both divisors.
        variance = here * (1 / (n + k / 2) + 1 / (m + k / 2)) ** 2
        total += variance / ((rows + 1) / (n + m + k))
    return total


def pooled(table: Any) -> Any:
    rare = table.sum(axis=0) * min(table.sum(axis=1)) < RARE * table.sum()
    if not rare.any():
        return table
    return np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)])


def p_value(table: Any, statistic: float) -> float | None:
    """Of the gamma distribution with the mean, variance and skewness that chi-square has."""
    if table.sum() <= 3:
        return None
    mean, variance = chi_square_moments(table)
    third = chi_square_third(table)
    skewed = variance > ROUNDING and third > ROUNDING
    degrees = min(max(8 * variance**3 / third**2, 0.5), 1e6) if skewed else 1e6
    deviation = math.sqrt(max(variance, 1e-6 * mean**2))
    scaled = degrees + (statistic - mean) / deviation * math.sqrt(2 * degrees)
    return float(stats.chi2.sf(max(scaled, 0), degrees))


def chi_square_moments(table: Any) -> tuple[float, float]:
    """Mean and variance of chi-square over all tables with these margins (Dawson 1954)."""
    rows = table.sum()

    def dawson(sums: Any) -> tuple[float, float]:
        k = len(sums)
        v = (k - 1) * (rows - k) / (rows - 1)
        return v, (rows * (1 / sums).sum() - k * k) / (rows - 2)

    (v1, w1), (v2, w2) = dawson(table.sum(axis=1)), dawson(table.sum(axis=0))
    mean = rows / (rows - 1) * (table.shape[1] - 1)
    variance = 2 * rows / (rows - 3) * (v1 - w1) * (v2 - w2) + rows**2 / (rows - 1) * w1 * w2
    return float(mean), float(variance)


def chi_square_third(table: Any) -> float:
    """The third cumulant of chi-square, from those of a binomial number of rows in each bin.

    A bin has X = U^2 / s, where U is what deviates and s its variance; of X - b U, which the
    number of all rows says nothing of, cumulants add up.
    """
    f, g = table.sum(axis=1) / table.sum()
    s = table.sum(axis=0) * f * g
    skew = g - f
    b = len(s) * skew / s.sum()
    xxx = 8 + (22 - 112 * f * g) / s + (1 - 30 * f * g + 120 * (f * g) ** 2) / s**2
    xxu = skew * (8 + (1 - 12 * f * g) / s)
    xuu = 2 * s + 1 - 6 * f * g
    uuu = skew * s
    return float((xxx - 3 * b * xxu + 3 * b**2 * xuu - b**3 * uuu).sum() - 8)


def number_bins(old: Sequence[int], new: Sequence[int]) -> tuple[list[str], list[str]]:
    """The bins that the numbers of both samples fall into, given as buckets."""
    places, held = sorted(old), Counter(old)
    lone = 1 in held.values()

    def place(bucket: int) -> str:
        below = bisect.bisect_left(places, bucket)
        if bucket not in held:
            if below == 0:
                return "below"
            if below == len(places):
                return "above"
            if not lone:
                return "between"
        if held[bucket] >= max(10, len(places) / 20):
            return f"bucket {bucket}"
        return f"decile {min(10 * below // len(places), 9)}"

    return [place(bucket) for bucket in old], [place(bucket) for bucket in new]


def feature_distances(old: list[Any], new: list[Any], panes: Sequence[Any]) -> tuple[Row, bool]:
    """Distances of two samples of values, and whether they are identifiers.

    `panes` has the start of the pane of each old one.
    """
    row = distances(*feature_bins(old, new))
    row["chi_square_p_value"] = row.pop("p_value")
    del row["cramers_v"]
    row |= {"reference_rows": len(old), "current_rows": len(new)}
    numbers = buckets_of(old, new)
    row |= {"ks": None, "ks_p_value": None}
    if all(numbers):
        row["ks"] = stats.ks_2samp(*numbers).statistic
        row["ks_p_value"] = ks_p_value(row["ks"], *map(len, numbers))
    row |= {"reference_others": 0, "current_others": 0}
    sides = [texts(old), texts(new)]
    is_identifier = not any(numbers) and (
        all(map(are_identifiers, sides))
        or (all(map(is_few_rows_each, sides)) and are_renewed(old, panes))
    )
    return row, is_identifier


def feature_bins(old: list[Any], new: list[Any]) -> tuple[list[str], list[str]]:
    """The bins that the values of a feature fall into."""
    sides = old, new
    places = [iter(places) for places in number_bins(*buckets_of(old, new))]

    def place(value: Any, numbers: Iterator[str]) -> str:
        if value is None:
            return "null"
        return next(numbers) if is_number(value) else f"category {text_of(value)}"

    first, second = ([place(v, p) for v in side] for side, p in zip(sides, places, strict=True))
    return first, second


def buckets_of(old: list[Any], new: list[Any]) -> list[list[int]]:
    """The buckets of the numbers among these."""
    sides = finest_buckets(*([x for x in side if is_number(x)] for side in (old, new)))
    return [[bucket.lowest for bucket in side] for side in sides]


def texts(values: Sequence[Any]) -> list[str]:
    return [text_of(value) for value in values if value is not None and not is_number(value)]


def are_identifiers(texts: list[str]) -> bool:
    """Whether nine of ten of these are different ones."""
    return bool(texts) and len(set(texts)) >= 0.9 * len(texts)


def is_few_rows_each(texts: list[str]) -> bool:
    return bool(texts) and len(texts) <= 10 * len(set(texts))


def are_renewed(values: Sequence[Any], panes: Sequence[Any]) -> bool:
    """Whether texts of the later half seldom come back from the earlier one."""
    found = [
        (pane, text_of(value))
        for value, pane in zip(values, panes, strict=True)
        if value is not None and not is_number(value)
    ]
    rows = Counter(pane for pane, _ in found)
    late_panes, until = set(), 0
    for pane in sorted(rows):
        until += rows[pane]
        if 2 * until - rows[pane] > len(found):
            late_panes.add(pane)
    early = Counter(text for pane, text in found if pane not in late_panes)
    late = [text for pane, text in found if pane in late_panes]
    if not late or 10 * len(late) < early.total():
        return False
    again = sum(text in early for text in late)
    once = sum(count == 1 for count in early.values())
    return 2 * again <= len(late) and 3 * again * early.total() <= len(late) * (
        early.total() - once
    )


def text_of(value: Any) -> str:
    return (value if isinstance(value, str) else str(value).lower())[:100]


def ks_p_value(statistic: float, n: int, m: int) -> float:
    return float(stats.kstwobign.sf(statistic * math.sqrt(n * m / (n + m))))
