"""Exploration in the gateway: the policies of each model, and what is known of its arms."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from headrace.control.plan import HOLDOUT
from headrace.engine import Engine
from headrace.errors import EngineError, one_line
from headrace.gateway.answers import Prediction
from headrace.model.explore import (
    Arms,
    Exploration,
    Shares,
    choose,
    evidence,
    probabilities,
    ranked,
)

log = logging.getLogger(__name__)

LOOK_S = 5.0
READ_ARMS = ("ucb1", "thompson")
PASSES = 50  # with dropout
Floats = NDArray[np.float64]

_POLICIES = """
select model, explore, explore_rate, explore_temperature, explore_half_life, max_arm_share
from headrace.model_policies where explore != 'off'
"""
_ARMS = """
select arm, effective_pulls, mean_reward, reward_variance, thompson_alpha is not null as is_share
from headrace.arm_stats where model = %s and arm is not null
"""


@dataclass(frozen=True, slots=True)
class _Model:
    """What the last look told of a model, and what was chosen lately."""

    exploration: Exploration
    arms: dict[str, dict[str, Any]]
    is_share: bool
    shares: Shares


class Explorer:
    """Chooses answers and orders items. A context manager.

    A thread looks at the policies and at ``headrace.arm_stats`` every few seconds; what was seen
    last is used meanwhile. Choices are made by one thread.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._models: dict[str, _Model] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="headrace-explore", daemon=True)

    def __enter__(self) -> Explorer:
        self.look()
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping.set()
        self._thread.join()

    def look(self) -> None:
        """Read policies and arms again; while the database does not answer, all stays as it was."""
        try:
            rows = self._engine.rows(_POLICIES)
            models = {}
            for row in rows:
                name = row["model"]
                before = self._models.get(name)
                exploration = Exploration(
                    row["explore"],
                    row["explore_rate"],
                    row["explore_temperature"],
                    row["explore_half_life"],
                    row["max_arm_share"],
                )
                arms = {}
                if exploration.half_life or exploration.how in READ_ARMS:
                    arms = {one["arm"]: one for one in self._engine.rows(_ARMS, [name])}
                pulls = sum(one["effective_pulls"] or 0 for one in arms.values())
                models[name] = _Model(
                    exploration.after(pulls),
                    arms,
                    all(one["is_share"] for one in arms.values()),
                    before.shares if before else Shares(),
                )
            self._models = models
        except (psycopg.Error, EngineError) as error:
            log.warning("cannot read how models explore, trying again: %s", one_line(error))

    def answer(self, model: str, request_id: str, prediction: Prediction) -> Prediction:
        """Return the prediction with the label that was chosen, and its propensity.

        One that is no classification, or is of the holdback, stays as it is.
        """
        found = self._models.get(model)
        scores = prediction.scores
        if found is None or not scores or prediction.version.variant == HOLDOUT:
            return prediction
        labels = [*scores]
        values = np.array([*scores.values()]) if prediction.passes is None else prediction.passes
        kept, worth = _worth(found, request_id, labels, values)
        wanted = probabilities(found.exploration, worth)
        chosen = choose(wanted, request_id)
        label = labels[kept[chosen]]
        found.shares.note(label)
        return replace(
            prediction,
            label=label,
            score=scores[prediction.positive or label],
            propensity=float(wanted[chosen]),
        )

    def passes(self, model: str) -> int:
        """How many passes with dropout a model's answers are wanted from; 0: one without."""
        found = self._models.get(model)
        return PASSES if found and found.exploration.how == "dropout" else 0

    def order(
        self,
        model: str,
        request_id: str,
        items: Sequence[str],
        values: Sequence[float],
        variant: str,
    ) -> list[tuple[int, float]]:
        """Return the places of all items in the order to show them, each with its propensity."""
        found = self._models.get(model)
        if found is None or variant == HOLDOUT:
            best_first = sorted(range(len(items)), key=lambda at: -values[at])
            return [(at, 1.0) for at in best_first]
        kept, worth = _worth(found, request_id, items, np.array([*values]))
        order = [
            (kept[at], propensity)
            for at, propensity in ranked(found.exploration, worth, request_id)
        ]
        found.shares.note(items[order[0][0]])
        left = set(range(len(items))) - set(kept)
        return [*order, *((at, 1.0) for at in sorted(left, key=lambda at: -values[at]))]

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_S):
            try:
                self.look()
            except Exception:
                log.exception("how models explore is not followed, trying again")


def _worth(
    model: _Model, request_id: str, names: Sequence[str], values: Floats
) -> tuple[list[int], Floats]:
    """The places of the arms that may be chosen, and the evidence for them."""
    kept = model.shares.allowed(names, model.exploration.max_share)
    arms = _known(model, [names[at] for at in kept])
    return kept, evidence(model.exploration, values[..., kept], arms, request_id)


def _known(model: _Model, names: Sequence[str]) -> Arms | None:
    """What is known of the arms with these names; None where it is nothing."""
    if not model.arms:
        return None
    rows = [model.arms.get(name) or {} for name in names]

    def column(name: str) -> Floats:
        return np.array([float(row.get(name) or 0.0) for row in rows])

    return Arms(
        column("effective_pulls"),
        column("mean_reward"),
        column("reward_variance"),
        model.is_share,
    )
