"""The loaded versions of each model, which of them predicts for a request, and the next plan.

A plan and its versions are immutable, so the gateway swaps plans with one assignment: a batch that
began under the old plan ends under it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from headrace.control.plan import FORMER, Served

if TYPE_CHECKING:
    from headrace.model.artifact import Manifest
    from headrace.model.recipe import Predictor

logger = logging.getLogger(__name__)

CHAMPION, CANARY = "champion", "canary"


@dataclass(frozen=True, eq=False)
class LoadedVersion:
    """A version in memory.

    `labels` are the texts of those of the predictor, in its order; a version of before labels were
    normalized may have two of one text. `positive` is the positive one, None where the score is
    that of the predicted label; `online` names the features that are read from the feature store.
    """

    row: Served
    manifest: Manifest
    predictor: Predictor
    labels: tuple[str, ...]
    positive: str | None
    online: tuple[str, ...]


@dataclass(frozen=True)
class ModelVersions:
    """The loaded versions that predict for one model."""

    champion: LoadedVersion | None
    canaries: tuple[LoadedVersion, ...] = ()

    def choose(self, request_id: str) -> LoadedVersion | None:
        """Return the version for a request: always the same one under the same plan."""
        share = share_of(request_id)
        for canary in self.canaries:
            share -= canary.row.traffic
            if share < 0:
                return canary
        return self.champion


Plan = Mapping[str, ModelVersions]


def share_of(request_id: str) -> float:
    """Return a number in [0, 1) for an id: the same for the same id, and uniform over ids."""
    digest = hashlib.blake2b(request_id.encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)


def loaded_versions(plan: Plan) -> list[LoadedVersion]:
    """Return the champions and canaries of all models."""
    return [
        version
        for versions in plan.values()
        for version in (versions.champion, *versions.canaries)
        if version is not None
    ]


class PlanUpdate:
    """One step from the plan that serves to what the rows of the serving plan ask for.

    Versions that are loaded already are kept. When a champion cannot be loaded, the newest former
    one that can be takes its place, or else the version that serves now.

    Attributes:
        plan: the next plan.
        errors: why versions could not be loaded. What was among `earlier_errors` is not logged
            again.
    """

    def __init__(
        self,
        rows: tuple[Served, ...],
        current: Plan,
        earlier_errors: Mapping[Served, str],
        load: Callable[[Served], LoadedVersion],
    ) -> None:
        self._current = current
        self._earlier_errors = earlier_errors
        self._load = load
        loaded = loaded_versions(current)
        self._serving = {version.row for version in loaded}
        self._loaded = {_artifact(version.row): version for version in loaded}
        self.errors: dict[Served, str] = {}
        self.plan: dict[str, ModelVersions] = {}
        for model in sorted({row.model for row in rows}):
            of_model = [row for row in rows if row.model == model]
            champion = self._champion(of_model)
            canaries = tuple(self._loadable(of_model, CANARY))
            if champion or canaries:
                self.plan[model] = ModelVersions(champion, canaries)

    def _champion(self, rows: Iterable[Served]) -> LoadedVersion | None:
        champion = next((row for row in rows if row.variant == CHAMPION), None)
        if champion is None:
            return None
        return self._get(champion) or self._substitute(champion, rows)

    def _substitute(self, champion: Served, rows: Iterable[Served]) -> LoadedVersion | None:
        """Return the version that serves in place of a champion that cannot be loaded."""
        former = next(self._loadable(rows, FORMER), None)
        serving = self._current.get(champion.model)
        version = former or (serving.champion if serving else None)
        if version is None:
            return None
        row = replace(version.row, variant=CHAMPION, traffic=champion.traffic)
        if self._is_new(champion) or row not in self._serving:
            logger.error(
                "version %s of %s serves in place of %s",
                row.model_version, row.model, champion.model_version,
            )  # fmt: skip
        return replace(version, row=row)

    def _loadable(self, rows: Iterable[Served], variant: str) -> Iterator[LoadedVersion]:
        """Yield the versions of a variant that can be loaded, each loaded when it is asked for."""
        for row in rows:
            if row.variant == variant and (version := self._get(row)):
                yield version

    def _get(self, row: Served) -> LoadedVersion | None:
        """Return the version; None, with its error noted, if it cannot be loaded."""
        known = self._loaded.get(_artifact(row))
        try:
            return replace(known, row=row) if known else self._load(row)
        except Exception as error:
            self.errors[row] = f"{type(error).__name__}: {error}".splitlines()[0]
            if self._is_new(row):
                logger.error(
                    "version %s of %s cannot be loaded: %s",
                    row.model_version, row.model, self.errors[row],
                )  # fmt: skip
            return None

    def _is_new(self, row: Served) -> bool:
        """Whether the error of a version is another one than before."""
        return self.errors[row] != self._earlier_errors.get(row)


def _artifact(row: Served) -> tuple[str, str, str]:
    return row.model, row.model_version, row.artifact_uri
