"""PSI of ten features: the view, a plain NumPy computation of the same numbers, and Evidently."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.ingest import costs
from benchmarks.load import Batch, loading, put, rebuild
from benchmarks.report import machine, milliseconds, say, short, table
from benchmarks.stream import START
from benchmarks.views import measure, planning
from headrace.engine import Engine
from headrace.events.contract import Inference

ROWS, QUICK_ROWS = 1_000_000, 20_000
FEATURES = 10
# Half of the rows is the reference (the first hour), the other half the current window.
MINUTES, CURRENT_FROM = 30, 100
GAMMA = 1.0202020202020203  # as in macros/statistics/sketches.sql
LEVELS, PLACES, EIGHTH = 4, 64, 3  # as in macros/statistics/rings.sql
BLOCK_BITS = 7 + LEVELS * EIGHTH
BELOW, BETWEEN, ABOVE, BUCKET = 10, 11, 12, 13  # bins beside the tenths, 0 to 9
CHUNK = 50_000
TOLERANCE = 1e-6
QUERY = "select * from headrace.feature_drift where model = 'm0'"


def run(engine: Engine, quick: bool = False) -> str:
    """Return the table as Markdown.

    Raises:
        AssertionError: the view and NumPy differ.
    """
    rows = QUICK_ROWS if quick else ROWS
    frame = _frame(rows)
    reference, current = frame.iloc[: rows // 2], frame.iloc[rows // 2 :]
    with loading(engine) as connection:
        for at in range(0, rows, CHUNK):
            say(f"load {short(rows)} rows of {FEATURES} features: at {short(at)}")
            put(connection, "inference", list(_events(frame, at, min(at + CHUNK, rows))))
    rebuilt = rebuild(engine)
    say("drift: the view")
    with engine.connect() as connection:
        ours = measure(connection, QUERY) / 1_000
        plan = planning(connection, QUERY)
    psi = {row["feature"]: row["psi"] for row in engine.rows(QUERY)}
    say("drift: NumPy")
    numpy, expected = _timed(lambda: psi_of(reference, current))
    worst = max(abs(psi[name] - expected[name]) for name in frame)
    assert worst < TOLERANCE, f"the view and NumPy differ by {worst}"
    lines = [
        ("`feature_drift`, all its columns", ours),
        ("NumPy, the same numbers", numpy),
    ]
    evidently = _evidently(reference, current)
    if evidently is not None:
        lines.append(("Evidently, `DataDriftPreset(method='psi')`", evidently))
    with engine.connect(autocommit=False) as connection:
        sent: list[Batch] = [
            [("inference", list(_events(frame, at, at + 1_000, "again-")))]
            for at in range(rows - 10_000, rows, 1_000)
        ]
        spent = costs(connection, sent)["feature_panes on events_inference_insert"]
    return "\n".join([
        "# Drift\n",
        f"PSI of {FEATURES} numeric features, {short(rows)} rows, half of them the reference. The "
        f"view's time is that of a prepared query ({milliseconds(plan)} ms to plan); it reads "
        "panes, which cost "
        f"{spent:.0f} us a row at ingest ({1_000 * spent / FEATURES:,.0f} ns a value, batches of "
        f"1,000) or {rebuilt.panes['feature_panes']:.0f} s to rebuild from the events. The others "
        "have the rows in memory as a pandas frame. View and NumPy agree "
        f"within {worst:.0e}; Evidently bins by its own edges. {machine(engine)}\n",
        table(
            ["", "seconds", "times the view"],
            [(name, f"{took:.3f}", f"{took / ours:,.1f}") for name, took in lines],
        ),
        "" if evidently is not None else
        "Evidently is not installed and was not measured (`pip install '.[bench]'`).\n",
    ])  # fmt: skip


def _frame(rows: int) -> pd.DataFrame:
    """Return features of many shapes; in the second half of the rows each is shifted a bit more."""
    rng = np.random.default_rng(0)
    moved = np.arange(rows) >= rows // 2
    shapes: list[Callable[[int], NDArray[np.float64]]] = [
        rng.standard_normal,
        lambda size: rng.lognormal(3, 1, size),
        rng.random,
        lambda size: rng.exponential(10, size),
        lambda size: rng.integers(18, 90, size).astype(float),
    ]
    columns = {}
    for number in range(FEATURES):
        values = shapes[number % len(shapes)](rows)
        columns[f"x{number}"] = values + moved * 0.05 * number * values.std()
    return pd.DataFrame(columns)


def _events(frame: pd.DataFrame, first: int, last: int, prefix: str = "") -> Iterator[Inference]:
    half = len(frame) // 2
    for number, values in zip(
        range(first, last), frame.iloc[first:last].to_dict("records"), strict=True
    ):
        minutes = number % half / half * MINUTES + (CURRENT_FROM if number >= half else 0)
        yield Inference(
            model="m0",
            request_id=f"{prefix}{number:08x}",
            event_time=START + timedelta(minutes=minutes),
            features={str(name): value for name, value in values.items()},
        )


def psi_of(reference: pd.DataFrame, current: pd.DataFrame) -> dict[str, float]:
    """PSI of each column over the bins of macros/statistics/number_bins.sql."""
    return {str(name): _psi(*buckets_of(reference[name], current[name])) for name in reference}


def buckets_of(reference: pd.Series[float], current: pd.Series[float]) -> list[NDArray[np.int64]]:
    """Return the buckets of both sides, by the lowest of the finest ones in each."""
    finest = [_finest(np.asarray(values, np.float64)) for values in (reference, current)]
    found = [np.zeros_like(side) for side in finest]
    for block in np.unique(np.concatenate(finest) >> BLOCK_BITS):
        inside = [side >> BLOCK_BITS == block for side in finest]
        for side, here, buckets in zip(found, inside, _of_block(finest, inside), strict=True):
            side[here] = buckets
    return found


def _finest(numbers: NDArray[np.float64]) -> NDArray[np.int64]:
    parts = 1 << LEVELS * EIGHTH
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.ceil(np.log(np.abs(numbers)) / np.log(GAMMA) * parts)
        above = 50_001 * parts - 1 + logs
        below = -50_000 * parts - logs
        return np.where(numbers == 0, 0, np.where(numbers > 0, above, below)).astype(np.int64)


def _of_block(finest: list[Any], inside: list[Any]) -> list[NDArray[np.int64]]:
    sides = [side[here] for side, here in zip(finest, inside, strict=True)]
    bits = LEVELS * EIGHTH
    buckets = [side >> bits for side in sides]
    while bits:
        ordered = [np.sort(side) for side in buckets if len(side)]
        low = min(side[len(side) // 100] for side in ordered)
        high = max(side[-1 - len(side) // 100] for side in ordered)
        if high - low >= 8:
            break
        bits -= EIGHTH
        start = (low - (7 - high + low) // 2) << EIGHTH
        buckets = [start + ((side >> bits) - start) % PLACES for side in sides]
    return [side << bits for side in buckets]


def _psi(reference: NDArray[np.int64], current: NDArray[np.int64]) -> float:
    buckets, places = np.unique(np.concatenate([reference, current]), return_inverse=True)
    before = np.bincount(places[: len(reference)], minlength=len(buckets))
    after = np.bincount(places[len(reference) :], minlength=len(buckets))
    below = np.cumsum(before) - before
    names = np.minimum(10 * below // len(reference), 9)
    common = (before >= 10) & (20 * before >= len(reference))
    names = np.where(common, BUCKET + np.arange(len(buckets)), names)
    never = before == 0
    if not (before == 1).any():
        names[never] = BETWEEN
    names[never & (below == 0)] = BELOW
    names[never & (below == len(reference))] = ABOVE
    _, bins = np.unique(names, return_inverse=True)
    shares = [
        (np.bincount(bins, counts) + 0.5) / (counts.sum() + 0.5 * (bins.max() + 1))
        for counts in (before, after)
    ]
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def _evidently(reference: pd.DataFrame, current: pd.DataFrame) -> float | None:
    """Seconds that Evidently takes, or None where it is not installed."""
    try:
        from evidently import Report
        from evidently.presets import DataDriftPreset
    except ImportError:
        say("drift: Evidently is not installed and is left out (pip install '.[bench]')")
        return None
    say("drift: Evidently")
    report = Report([DataDriftPreset(method="psi")])
    seconds, _ = _timed(lambda: report.run(current_data=current, reference_data=reference))
    return seconds


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result
