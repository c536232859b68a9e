"""Time from a label to another answer, with a model that learns online."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from benchmarks.gateways import gateway
from benchmarks.report import machine, milliseconds, quantile, say, table
from headrace.control.handover import hand_over
from headrace.declared import Declared, Online
from headrace.engine import Engine
from headrace.events.contract import parse
from headrace.events.log import EventLog
from headrace.trainer.online import OnlineLearner
from headrace.trainer.watch import Trainer

MODEL = "online"
LABELS, QUICK_LABELS = 100, 10
HISTORY = 1_000
BAR_MS = 2_000.0


def run(engine: Engine, quick: bool = False) -> str:
    """Return the table as Markdown."""
    _train(engine)
    times: list[float] = []
    stop = threading.Event()
    learner = OnlineLearner(engine, MODEL, Declared(online=Online()), lambda _: None)
    thread = threading.Thread(target=learner.run, args=[stop])
    thread.start()
    try:
        with _serving(engine) as http:
            for number in range(QUICK_LABELS if quick else LABELS):
                times.append(_until_changed(http, random.Random(number)))
                if number % 10 == 9:
                    say(f"online: {number + 1} labels, the last took {times[-1]:.0f} ms")
    finally:
        stop.set()
        thread.join()
    p50, p95, most = (quantile(times, share) for share in (0.5, 0.95, 1.0))
    verdict = "PASS" if p95 < BAR_MS else "over"
    return "\n".join([
        "# Online\n",
        f"{len(times)} labels one after the other. Each is of an answer that the gateway has just "
        "given, and says the other class; the same input is sent again, back to back, until the "
        f"score is another one. The steps are at least {Online().every_s:g} s apart. "
        f"{machine(engine)}\n",
        table(
            ["ms", "p50", "p95", "longest", "bar at p95"],
            [("label sent to changed answer", *map(milliseconds, (p50, p95, most)),
              f"{verdict} ({BAR_MS:.0f})")],
        ),
    ])  # fmt: skip


def _customer(rng: random.Random) -> dict[str, Any]:
    bill, calls = rng.uniform(0, 200), rng.randint(0, 9)
    return {"bill": bill, "calls": calls, "plan": rng.choice(["a", "b"])}


def _train(engine: Engine) -> None:
    """Have a version that learned from some labels."""
    rng = random.Random(1)
    hand_over(engine, MODEL, learns=True)
    start = datetime.now(UTC) - timedelta(minutes=HISTORY)
    with EventLog(engine) as log:
        for number in range(HISTORY):
            features = _customer(rng)
            leaves = features["bill"] / 200 + features["calls"] / 9 + rng.gauss(0, 0.15) > 1
            at = (start + timedelta(minutes=number)).isoformat()
            asked = {"model": MODEL, "request_id": f"r{number}", "event_time": at}
            said = {"request_id": f"r{number}", "label": "leaves" if leaves else "stays"}
            log.submit("inference", [parse("inference", {**asked, "features": features})])
            log.submit("feedback", [parse("feedback", {**said, "event_time": at})])
    with Trainer(engine, say) as trainer:
        assert trainer.run_once()


@contextmanager
def _serving(engine: Engine) -> Iterator[httpx.Client]:
    """A client of a gateway, once that serves the model."""
    with gateway(engine) as (url, _), httpx.Client(base_url=url, timeout=30) as http:
        while _ask(http, {"bill": 1.0, "calls": 1, "plan": "a"}).status_code != 200:
            time.sleep(0.1)
        yield http


def _ask(http: httpx.Client, features: dict[str, Any]) -> httpx.Response:
    return http.post("/v1/predict", json={"model": MODEL, "features": features})


def _until_changed(http: httpx.Client, rng: random.Random) -> float:
    """Milliseconds from a label until the same input has another score."""
    features = _customer(rng)
    first = _ask(http, features).json()
    other = {"leaves": "stays", "stays": "leaves"}[first["prediction"]]
    began = time.perf_counter()
    said = {"request_id": first["request_id"], "label": other}
    http.post("/v1/feedback", json=said).raise_for_status()
    while _ask(http, features).json()["score"] == first["score"]:
        if time.perf_counter() - began > 60:
            raise RuntimeError("a label changed nothing within a minute")
    return 1_000 * (time.perf_counter() - began)
