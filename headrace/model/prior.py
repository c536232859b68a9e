"""Probabilities of a version that learned from balanced classes, as frequent as they really are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headrace.model.inputs import Example
from headrace.model.recipe import Predictor


class PriorCorrected:
    """A version with `shift` added to the logits of its labels (King & Zeng 2001; for more than two
    classes Saerens, Latinne & Decaestecker 2002)."""

    def __init__(self, version: Predictor, shift: Sequence[float]) -> None:
        self.labels, self.features = version.labels, version.features
        self._version = version
        self._odds = np.exp(np.asarray(shift, dtype=np.float64))

    def predict(self, examples: Sequence[Example]) -> NDArray[np.float32]:
        """Probabilities, (n, labels)."""
        p = self._version.predict(examples) * self._odds
        out: NDArray[np.float32] = (p / p.sum(1, keepdims=True)).astype(np.float32)
        return out


def corrected(version: Predictor, shift: Sequence[float]) -> Predictor:
    """Return the version with its probabilities corrected; itself where there is no shift."""
    return PriorCorrected(version, shift) if shift else version
