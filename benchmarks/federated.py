"""Sites that learn an adapter together, each alone, and one that has all their texts.

The topics of WordNet's definitions; every site is a process with the recipe `text_classifier`, and
a server of Flower averages (`make flower` installs it).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.report import machine, say, table
from headrace.engine import Engine
from headrace.machine import free_port

FLOWER = Path(sys.prefix) / "flower" / "bin" / "python"
SITES, EACH, TEST = 3, 300, 1_000
ROUNDS = 3  # of one epoch
WAYS = {
    "alone": f"each site alone, {ROUNDS} epochs",
    "federated": f"federated, {ROUNDS} rounds of an epoch",
    "pooled": f"all texts in one place, {ROUNDS} epochs",
}
Found = list[dict[str, float]]


def run(engine: Engine, quick: bool) -> str:
    """Return the table as Markdown."""
    seeds = (0,) if quick else (0, 1)
    found: dict[str, Found] = {way: [] for way in WAYS}
    for seed in seeds:
        for way in WAYS:
            found[way] += _measured(way, seed, quick)
            say(f"federated: seed {seed}, {way}: {_mean(found[way], 'log_loss'):.3f}")
    rows = [
        [
            name,
            f"{_mean(found[way], 'log_loss'):.3f}",
            f"{_mean(found[way], 'accuracy'):.3f}",
            f"{_mean(found[way], 'without'):.3f}",
        ]
        for way, name in WAYS.items()
    ]
    return (
        f"Topics of WordNet's definitions: {SITES} sites with {EACH} texts each, drawn at random, "
        f"tested on at most {TEST:,} others, of the topics that all sites know; means over sites "
        f"and seeds ({', '.join(map(str, seeds))}).\n\n"
        f"{table(['', 'log loss', 'accuracy', 'log loss without the adapter'], rows)}\n"
        f"{machine(engine)}\n"
    )


def _mean(found: Found, name: str) -> float:
    return float(np.mean([one[name] for one in found]))


def _measured(way: str, seed: int, quick: bool) -> Found:
    """The sites of one way, at the same time."""
    address = f"127.0.0.1:{free_port()}"
    options = ["--sites", str(SITES), "--rounds", str(ROUNDS), "--address", address, "--once"]
    with subprocess.Popen(
        [FLOWER, "-m", "headrace.cli", "federated", *options], stdout=subprocess.DEVNULL
    ) as server:
        try:
            numbers = [-1] if way == "pooled" else range(SITES)
            sites = [_site(way, seed, number, quick, address) for number in numbers]
            return [_ended(site) for site in sites]
        finally:
            server.kill()


def _site(way: str, seed: int, number: int, quick: bool, address: str) -> subprocess.Popen[str]:
    given = json.dumps([way, seed, number, quick, address])
    command = [sys.executable, "-m", "benchmarks.federated", given]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _ended(site: subprocess.Popen[str]) -> dict[str, float]:
    said, _ = site.communicate()
    if site.returncode:
        raise SystemExit(f"a site ended with code {site.returncode}")
    measured: dict[str, float] = json.loads(said.splitlines()[-1])
    return measured


def _child(way: str, seed: int, number: int, quick: bool, address: str) -> dict[str, float]:
    """Train a site (-1: all in one) and ask it about the texts to test."""
    from benchmarks.lora_texts import definitions
    from headrace.model.config import Federation
    from headrace.model.inputs import Example
    from headrace.model.recipe import TrainingExample, TrainingSet
    from headrace.trainer.recipes import text_classifier

    each, test = (120, 200) if quick else (EACH, TEST)
    texts = definitions(SITES * each, test)
    order = np.random.default_rng(seed).permutation(SITES * each)
    rows = order if number < 0 else order.reshape(SITES, each)[number]
    examples = [TrainingExample(Example(texts.texts[row]), str(texts.labels[row])) for row in rows]
    labels = tuple(sorted({one.label for one in examples}))
    everywhere = set.intersection(*(set(texts.labels[one]) for one in order.reshape(SITES, each)))
    asked = [row for row in texts.test if texts.labels[row] in everywhere]
    target = [labels.index(str(texts.labels[row])) for row in asked]
    federation = Federation(server=address, python=str(FLOWER)) if way == "federated" else None
    epochs = 1 if federation else ROUNDS

    def measured(**settings: object) -> tuple[float, float]:
        config = text_classifier.Config(epochs=epochs, **settings)  # type: ignore[arg-type]
        dataset = TrainingSet("topics", "classification", examples, labels, seed)
        with tempfile.TemporaryDirectory(prefix="headrace-federated-") as place:
            text_classifier.fit(dataset, None, config, lambda *_: None, Path(place))
            probabilities = text_classifier.load(Path(place)).predict(
                [Example(texts.texts[row]) for row in asked]
            )
        return _scores(probabilities, target)

    loss, accuracy = measured(adapter="always", federation=federation)
    return {"log_loss": loss, "accuracy": accuracy, "without": measured(adapter="never")[0]}


def _scores(probabilities: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
            target: Sequence[int]) -> tuple[float, float]:  # fmt: skip
    right = probabilities[np.arange(len(target)), target]
    return float(-np.log(right).mean()), float((probabilities.argmax(1) == target).mean())


if __name__ == "__main__":
    print(json.dumps(_child(*json.loads(sys.argv[1]))))
