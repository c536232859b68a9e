"""Probabilities of a version that learned from balanced classes, as frequent as they really are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.model.inputs import Example
from headrace.model.recipe import Predictor
from headrace.model.together import Answering, Answers, alone, answering


class PriorCorrected:
    """A version with `shift` added to the logits of its labels (King & Zeng 2001; for more than two
    classes Saerens, Latinne & Decaestecker 2002)."""

    def __init__(self, version: Predictor, shift: Sequence[float]) -> None:
        self.labels, self.features = version.labels, version.features
        self._version = version
        self._odds = np.exp(np.asarray(shift, dtype=np.float64))

    def predict(self, examples: Sequence[Example]) -> NDArray[np.float32]:
        """Probabilities, (n, labels)."""
        return alone(self.answering(examples, 0)).rows

    def answering(self, examples: Sequence[Example], passes: int) -> Answering:
        """The answers of the version, and its passes, corrected in the same way."""
        found = yield from answering(self._version, examples, passes)
        several = None if found.passes is None else self._corrected(found.passes)
        return Answers(self._corrected(found.rows).astype(np.float32), several)

    def _corrected(self, p: NDArray[Any]) -> NDArray[Any]:
        moved = p * self._odds
        return np.asarray(moved / moved.sum(-1, keepdims=True))


def corrected(version: Predictor, shift: Sequence[float]) -> Predictor:
    """Return the version with its probabilities corrected; itself where there is no shift."""
    return PriorCorrected(version, shift) if shift else version
