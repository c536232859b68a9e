"""The stack of the parts of a text classifier, and how a part's gain is judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import log_softmax

from benchmarks import lora_texts
from benchmarks.lora import Floats, paired_gain, stack, weighed

RNG = np.random.default_rng(0)
TARGET = RNG.integers(0, 3, 2_000)


def part(knows: float) -> Floats:
    """Log probabilities that know the target this well, with the right confidence."""
    evidence = knows * (knows * np.eye(3)[TARGET] + RNG.normal(size=(2_000, 3)))
    return np.asarray(log_softmax(evidence, axis=1))


def test_what_adds_nothing_weighs_nothing_and_gains_nothing() -> None:
    words, noise = part(1.0), part(1.0)[RNG.permutation(2_000)]
    assert stack([words, noise], TARGET) == pytest.approx([1, 0], abs=0.1)
    gain, half = paired_gain([words], [words, noise], TARGET)
    assert abs(gain) < half < 0.01


def test_independent_evidence_adds_up() -> None:
    words, meaning = part(1.0), part(1.0)
    assert stack([words, meaning], TARGET) == pytest.approx([1, 1], abs=0.15)
    gain, half = paired_gain([words], [words, meaning], TARGET)
    assert gain > 4 * half > 0


def test_an_overconfident_part_is_tempered() -> None:
    sure = part(1.0)
    assert stack([3 * sure], TARGET) == pytest.approx([1 / 3], abs=0.05)
    assert np.exp(weighed(np.array([0.5]), [sure])).sum(1) == pytest.approx(1)


def test_a_definition_is_read_without_its_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data.noun").write_text(
        "  1 the licence\n"
        "00001740 05 n 02 cat 0 true_cat 1 003 ~ 00001741 n 0000 @ 00001930 n 0000 "
        '+ 00002137 v 0101 | a feline; it purrs; "the cat sat"  \n'
    )
    monkeypatch.setattr(lora_texts, "_wordnet", lambda: tmp_path)
    (one,) = lora_texts._synsets("noun")
    assert one == lora_texts.Synset("00001740", 5, "00001930", "a feline; it purrs")
