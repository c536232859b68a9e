"""A version that is asked whole examples, and is given what its declaration says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from headrace.model.inputs import Example, Id
from headrace.model.recipe import ANSWER, Predictor, Task, Writer
from headrace.model.together import Answering, answering


class Given:
    """A version that reads these features and ids only; like any predictor it never changes."""

    def __init__(
        self, version: Predictor, features: Sequence[str] | None, ids: Sequence[Id]
    ) -> None:
        self.labels, self.features = version.labels, version.features
        self._version, self._names, self._ids = version, features, ids

    def predict(self, examples: Sequence[Example]) -> NDArray[Any]:
        """Return what the version answers."""
        return self._version.predict(self._given(examples))

    def answering(self, examples: Sequence[Example], passes: int) -> Answering:
        """Answer as the version does."""
        return answering(self._version, self._given(examples), passes)

    def log_losses(
        self, examples: Sequence[Example], answers: Sequence[str]
    ) -> NDArray[np.float32]:
        """Return those of a version that writes answers."""
        return cast(Writer, self._version).log_losses(self._given(examples), answers)

    def _given(self, examples: Sequence[Example]) -> list[Example]:
        return [one.given(self._names, self._ids) for one in examples]


def given(
    version: Predictor, task: Task, features: Sequence[str] | None, ids: Sequence[Id]
) -> Predictor:
    """Return the version given these features (None: all) and ids; itself where that is all.

    The answer to be judged, of a preference, is always given.
    """
    if features is None and not ids:
        return version
    if features is not None and task == "preference":
        features = (*features, ANSWER)
    return Given(version, features, ids)
