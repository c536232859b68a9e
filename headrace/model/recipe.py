"""What a recipe is: how a kind of model is trained from examples, kept in a folder and loaded.

A recipe is a module with the names of `Recipe`. Headrace's own are in `headrace.trainer.recipes`;
docs/recipes.md shows how to write another one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.model.inputs import Example

Task = Literal["classification", "regression", "ranking", "preference", "generation"]

ANSWER = "answer"  # the feature that holds the answer to be judged, of a preference


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """One example to learn from.

    Attributes:
        label: the class; a number as text, where the task is regression or ranking; the right
            answer, where it is generation; the better answer, where it is preference.
        weight: how much it counts; 1 is usual.
        request_id: of its prediction. Items that were ranked together share it.
        position: where the item was shown, from 1.
        propensity: the probability with which the item was shown, as it was logged.
        rejected: the answer that `label` was preferred to.
    """

    example: Example
    label: str
    weight: float = 1.0
    request_id: str = ""
    position: int | None = None
    propensity: float | None = None
    rejected: str | None = None


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Examples, oldest first, and what they are about.

    Attributes:
        labels: the classes among them, sorted; none but for a classification.
    """

    model: str
    task: Task
    examples: Sequence[TrainingExample]
    labels: tuple[str, ...] = ()
    seed: int = 0


class Progress(Protocol):
    """Is told how far a recipe is: step `step` of `steps`, and the loss of this step."""

    def __call__(self, step: int, steps: int, loss: float | None = None) -> None: ...


class Predictor(Protocol):
    """A loaded version. It never changes, and any thread may call it.

    One that shares a network with others has `answering`, too (`headrace.model.together`).

    Attributes:
        labels: the classes, in the order of `predict`'s columns; none but for a classification.
        features: names of the features that it reads.
    """

    labels: tuple[str, ...]
    features: tuple[str, ...]

    def predict(self, examples: Sequence[Example]) -> NDArray[Any]:
        """Return one row for each example.

        Classification: probabilities, (n, labels). Regression: the expected value, (n,). Ranking:
        the probability of a click, (n,). Preference: the reward of the answer in the feature
        `answer`, (n,). Generation: an answer each, (n,) of strings.
        """


class Writer(Predictor, Protocol):
    """A version that writes answers, for generation."""

    def log_losses(
        self, examples: Sequence[Example], answers: Sequence[str]
    ) -> NDArray[np.float32]:
        """Return the mean negative log likelihood of each answer's tokens, in nats, (n,)."""


class Recipe(Protocol):
    """The names of a recipe's module.

    Attributes:
        TASKS: what it can be trained for; the first is the default.
        NEEDS: packages beyond those of Headrace, as pip names them.
        update: optional; `update(parent, examples, folder, rate=, steps=)` learns a few examples
            in less than a second, for a model that is declared with `online`. `folder` holds a copy
            of the parent's files, whose files are links: write a new file, do not change one.
        IDS: optional; the ids of an event that are features, where its declaration says nothing.
        complete: optional; `complete(dataset, config, folder)` lets the version in `folder`, which
            has passed the gate, learn again from all examples, those that judged it included. What
            was chosen, and takes long, stays. It returns what is added to the report.
        untrained: optional; `untrained(config)` returns the predictor before any training, which
            the first version has to beat.
        Config: a frozen dataclass or msgspec.Struct with every setting and its default. Its
            docstring says what they mean; the key `base` of a model's declaration sets its field
            `base`, if it has one.
    """

    TASKS: tuple[Task, ...]
    NEEDS: tuple[str, ...]
    Config: type[Any]

    def fit(
        self,
        dataset: TrainingSet,
        parent: Path | None,
        config: Any,
        progress: Progress,
        folder: Path,
    ) -> Mapping[str, Any]:
        """Train a version, write it into the empty `folder` and return a report for its model card.

        `parent` is the folder of a version of this recipe to start from, where that is of use. The
        report is JSON: names and what they are; `parts` in it, if any, says what each part of the
        model gained.

        Raises:
            NothingToLearnError: the examples teach nothing, such as a single class.
        """

    def load(self, folder: Path) -> Predictor:
        """Load what `fit` wrote.

        Raises:
            ModelError: the folder is incomplete or of another format.
        """
