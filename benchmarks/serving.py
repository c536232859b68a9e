"""A text version behind plain FastAPI and torch, and behind the gateway: throughput and latency.

The servers run side by side and are asked in turn, so that a busy machine slows all of them. The
clients are a process of their own (`benchmarks.asker`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.asker import Task, Told, ask
from benchmarks.gateways import gateway
from benchmarks.report import machine, milliseconds, quantile, say, table
from headrace.demo.stream import reports
from headrace.engine import Engine
from headrace.events.contract import parse
from headrace.events.log import EventLog
from headrace.machine import bind
from headrace.model.artifact import VERSION, Manifest
from headrace.model.inputs import Example
from headrace.model.recipe import TrainingExample, TrainingSet
from headrace.model.text.graph import Precision
from headrace.model.text.version import read_config, set_precision
from headrace.settings import Settings
from headrace.trainer.recipes import load, text_classifier

LEARN, ASKED = 400, 200
VERSIONS = ("v1", "v2")
PRECISIONS: tuple[Precision, ...] = ("float32", "int8")
CLIENTS, USUAL = (1, 16, 64), 16
MOST_CLIENTS = 1_024
ROUNDS, SECONDS = 3, 2.0
SWAP_SECONDS, SWAP_EVERY_S = 4.0, 1.3
# How far a probability may be from what the version gives alone.
EQUAL: dict[str, float] = {"float32": 1e-4, "int8": 1e-4}
TRIVIAL = "trivial"


@dataclass(frozen=True)
class Way:
    """One way to be answered: an address, its process, and what is sent besides the text."""

    name: str
    url: str
    process: int
    more: Mapping[str, str] = field(default_factory=dict)

    def cpu_s(self) -> float:
        """Seconds of processors that the process has used (Linux)."""
        spent = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        return (int(spent[11]) + int(spent[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Asked:
    """What clients were told, and the milliseconds of processors that an answer took."""

    told: Told
    cpu_ms: float

    @property
    def per_s(self) -> float:
        return self.told.per_s

    def took_ms(self, share: float) -> float:
        """The latency that `share` of the answers do not exceed."""
        return quantile(self.told.took_ms, share)


class Bench:
    """What is asked, and what was answered.

    Attributes:
        wanted: by model and version the probabilities that it gives alone, (texts, labels).
        moved: by model the largest difference from them.
        checked, mixed: answers of the gateway to texts, and those that were not of the version
            that they named.
    """

    def __init__(self, texts: Sequence[str], rounds: int) -> None:
        self.texts, self.rounds = texts, rounds
        self.wanted: dict[tuple[str, str], NDArray[Any]] = {}
        self.moved: dict[str, float] = {}
        self.checked = self.mixed = 0

    def ask(self, way: Way, clients: int, seconds: float = SECONDS) -> Asked:
        """Have so many clients ask one way."""
        bodies = [{**way.more, "text": text} for text in self.texts]
        before = way.cpu_s()
        found = ask(Task(way.url, bodies, clients, seconds))
        cpu_ms = 1000 * (way.cpu_s() - before) / found.answered
        say(f"serving: {way.name}, {clients} clients: {found.per_s:,.0f}/s, {cpu_ms:.2f} ms of CPU")
        if way.more.get("model") in EQUAL:
            self._check(way.more["model"], found)
        return Asked(found, cpu_ms)

    def _check(self, model: str, found: Told) -> None:
        for place, raw in zip(found.places, found.answers, strict=True):
            answer = msgspec.json.decode(raw)
            wanted = self.wanted[model, answer["model_version"]][place]
            moved = float(np.abs(np.array(list(answer["scores"].values())) - wanted).max())
            self.moved[model] = max(self.moved.get(model, 0), moved)
            self.checked += 1
            self.mixed += moved > EQUAL[model]


def run(engine: Engine, quick: bool = False) -> str:
    """Return the tables as Markdown."""
    rows = reports()[: LEARN + ASKED]
    bench = Bench([row["text"] for row in rows[LEARN:]], 1 if quick else ROUNDS)
    folders, said = _publish(engine, rows)
    for key, folder in folders.items():
        bench.wanted[key] = load(folder)[1].predict([Example(text) for text in bench.texts])
    models = Path(engine.settings.home) / "headrace.toml"
    models.write_text(f'[models.{TRIVIAL}]\nrecipe = "benchmarks.trivial"\n')
    with ExitStack() as stack:
        url, process = stack.enter_context(gateway(engine, models=str(models)))
        plain, fast = (
            stack.enter_context(_plain(name, folders[model, "v1"]))
            for name, model in (("FastAPI, torch", "float32"), ("FastAPI", TRIVIAL))
        )
        *ours, trivial = (
            Way(f"gateway, {model}", f"{url}/v1/predict", process, {"model": model})
            for model in (*PRECISIONS, TRIVIAL)
        )
        for way in (*ours, trivial):
            _until_served(way)
        tables = [
            _throughput(bench, [plain, *ours]),
            _at_the_same_p99(bench, plain, ours),
            _swaps(bench, engine, folders, ours),
            _throughput(bench, [fast, trivial]),
        ]
    return _page(engine, bench, said, tables)


def _page(engine: Engine, bench: Bench, said: str, tables: Sequence[str]) -> str:
    moved = ", ".join(f"{model} {bench.moved[model]:.1g}" for model in PRECISIONS)
    first, same, swaps, trivial = tables
    return "\n".join([
        "# Serving\n",
        f"Two versions that learned {LEARN} of the demo's reports, with an adapter; {ASKED} "
        f"other reports are asked, {text_classifier.Config().tokens} tokens at most. Int8: {said}. "
        f"Medians of {bench.rounds} rounds of {SECONDS:g} s in turn. {machine(engine)}\n",
        first,
        "At the p99 of plain FastAPI with 16 clients: as many clients of the gateway as have none "
        "longer.\n",
        same,
        f"16 clients for {SWAP_SECONDS:g} s, without and with another version promoted every "
        f"{SWAP_EVERY_S:g} s, in turn.\n",
        swaps,
        f"Of {bench.checked:,} answers of the gateway to texts {bench.mixed} were not those of the "
        "version that they named, asked by itself. The largest difference of a "
        f"probability: {moved}.\n",
        "A version that computes nothing: what serving costs. The gateway stores what it "
        "answered, FastAPI does not.\n",
        trivial,
    ])  # fmt: skip


def _publish(
    engine: Engine, rows: Sequence[dict[str, str]]
) -> tuple[dict[tuple[str, str], Path], str]:
    """Train the versions, have the first ones served; return all folders, and what int8 does."""
    root = engine.settings.artifacts_path.resolve()
    folders: dict[tuple[str, str], Path] = {
        (model, one): root / f"{model}-{one}" for one in VERSIONS for model in PRECISIONS
    }
    examples = [
        TrainingExample(Example(row["text"]), row["technical_impact"]) for row in rows[:LEARN]
    ]
    for number, version in enumerate(VERSIONS):
        say(f"serving: training {version} on {LEARN} reports")
        data = TrainingSet("reports", "classification", examples, ("partial", "total"), number)
        config = text_classifier.Config(adapter="always", epochs=1)
        exact, coarse = (folders[model, version] for model in PRECISIONS)
        exact.mkdir(parents=True)
        report = text_classifier.fit(data, None, config, lambda *_: None, exact)
        shutil.copytree(exact, coarse)
    folders[TRIVIAL, "v1"] = root / TRIVIAL
    folders[TRIVIAL, "v1"].mkdir()
    for (model, version), folder in folders.items():
        recipe = "benchmarks.trivial"
        if model != TRIVIAL:
            recipe = "text_classifier"
            set_precision(folder, "int8" if model == "int8" else "float32")
        manifest = Manifest(recipe=recipe, task="classification", labels=("partial", "total"))
        (folder / VERSION).write_bytes(msgspec.json.encode(manifest))
        if version == VERSIONS[0]:
            _promote(engine, model, version, folder)
    weights = [read_config(folders["int8", one])["weights"]["adapter"] for one in VERSIONS]
    said = " and ".join(f"{one:.2f}" for one in weights)
    return folders, f"{report['int8']}; the weights of the adapters are {said}"


def _promote(engine: Engine, model: str, version: str, folder: Path) -> None:
    event = {
        "model": model, "model_version": version, "event": "promoted", "artifact_uri": str(folder),
    }  # fmt: skip
    with EventLog(engine) as log:
        log.append("model_events", [parse("model_events", event)])


@contextmanager
def _plain(name: str, folder: Path) -> Iterator[Way]:
    with bind(Settings(port=0)) as listener:
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.plain", str(folder), str(port)]
    process = subprocess.Popen(command)
    way = Way(name, f"http://127.0.0.1:{port}/predict", process.pid)
    try:
        _until_served(way)
        yield way
    finally:
        process.terminate()
        process.wait()


def _until_served(way: Way) -> None:
    with httpx.Client(timeout=60) as http:
        for _ in range(600):
            try:
                if http.post(way.url, json={**way.more, "text": "warm up"}).status_code == 200:
                    return
            except httpx.ConnectError:
                pass
            time.sleep(0.1)
    raise RuntimeError(f"nothing answers at {way.url}")


def _throughput(bench: Bench, ways: Sequence[Way]) -> str:
    """Requests per second and latency of each way at each number of clients."""
    found: dict[tuple[str, int], list[Asked]] = {}
    for _ in range(bench.rounds):
        for clients in CLIENTS:
            for way in ways:
                found.setdefault((way.name, clients), []).append(bench.ask(way, clients))
    return table(
        _head(ways[0]),
        [
            _line(way.name, clients, found[way.name, clients], found[ways[0].name, clients])
            for way in ways
            for clients in CLIENTS
        ],
    )


def _at_the_same_p99(bench: Bench, plain: Way, ours: Sequence[Way]) -> str:
    """The throughput of each of ours with as many clients as have the p99 of `plain`."""
    limit = _p99(bench.ask(plain, USUAL))
    clients = {plain.name: USUAL}
    for way in ours:
        most = USUAL
        while most < MOST_CLIENTS and _p99(bench.ask(way, 2 * most)) <= limit:
            most *= 2
        clients[way.name] = most
    found: dict[str, list[Asked]] = {}
    for _ in range(bench.rounds):
        for way in (plain, *ours):
            found.setdefault(way.name, []).append(bench.ask(way, clients[way.name]))
    return table(
        _head(plain),
        [_line(name, clients[name], asked, found[plain.name]) for name, asked in found.items()],
    )


def _swaps(
    bench: Bench, engine: Engine, folders: Mapping[tuple[str, str], Path], ours: Sequence[Way]
) -> str:
    """The p99 of each of ours while versions are swapped, and without."""
    rows = []
    for way in ours:
        model = way.more["model"]
        still, swapped = [], []
        for _ in range(bench.rounds):
            still.append(bench.ask(way, USUAL, SWAP_SECONDS))
            with _swapping(engine, model, folders):
                swapped.append(bench.ask(way, USUAL, SWAP_SECONDS))
        added = np.median([_p99(b) - _p99(a) for a, b in zip(still, swapped, strict=True)])
        p50 = _middle([one.took_ms(0.5) for one in still])
        p99s = (_middle([_p99(one) for one in several]) for several in (still, swapped))
        rows.append((way.name, *map(milliseconds, (p50, *p99s)), f"{added:.1f}"))
    return table(
        ("", "p50, ms", "p99, ms", "p99 with swaps, ms", "added (median of pairs), ms"), rows
    )


@contextmanager
def _swapping(
    engine: Engine, model: str, folders: Mapping[tuple[str, str], Path]
) -> Iterator[None]:
    """Promote one version after the other, the first one last."""
    stop = threading.Event()

    def swap() -> None:
        number = 0
        while not stop.wait(SWAP_EVERY_S) or number % 2:
            number += 1
            version = VERSIONS[number % 2]
            _promote(engine, model, version, folders[model, version])

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _p99(one: Asked) -> float:
    return one.took_ms(0.99)


def _middle(values: Sequence[float]) -> float:
    return float(np.median(values))


def _head(plain: Way) -> list[str]:
    return [
        "", "clients", "requests/s", f"as a multiple of {plain.name}", "p50, ms", "p99, ms",
        "CPU ms a request",
    ]  # fmt: skip


def _line(
    name: str, clients: int, several: Sequence[Asked], plain: Sequence[Asked]
) -> list[object]:
    """Medians of the rounds, and that of the ratios of the rounds."""
    ratios = [one.per_s / other.per_s for one, other in zip(several, plain, strict=True)]
    return [
        name,
        clients,
        f"{_middle([one.per_s for one in several]):,.0f}",
        f"{_middle(ratios):.2f}",
        *(milliseconds(_middle([one.took_ms(share) for one in several])) for share in (0.5, 0.99)),
        f"{_middle([one.cpu_ms for one in several]):.2f}",
    ]
