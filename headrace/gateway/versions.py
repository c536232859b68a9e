"""The loaded versions of each model, which of them answers whom, and the next plan.

A plan and its versions are immutable, so the gateway swaps plans with one assignment: a batch that
began under the old plan ends under it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from headrace.control.plan import CANARY, CHAMPION, FORMER, HOLDOUT, SHADOW, Served
from headrace.errors import stored_line
from headrace.gateway.assignment import place

if TYPE_CHECKING:
    from headrace.features.lookup import Needed
    from headrace.features.reader import FeatureReader
    from headrace.model.artifact import Manifest
    from headrace.model.recipe import Predictor

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Online:
    """The features that a version reads from the feature store, and what reads them."""

    reader: FeatureReader
    needed: Needed


@dataclass(frozen=True, eq=False)
class LoadedVersion:
    """A version in memory.

    `labels` are the texts of those of the predictor, in its order; a version of before labels were
    normalized may have two of one text. `positive` is the positive one, None where the score is
    that of the predicted label; `online` is None where it reads nothing from the feature store.
    """

    row: Served
    manifest: Manifest
    predictor: Predictor
    labels: tuple[str, ...]
    positive: str | None
    online: Online | None


@dataclass(frozen=True)
class ModelVersions:
    """The loaded versions of one model.

    `canaries` are those of the plan, each with its version if that is loaded; `holdout` answers the
    units that are held back; `shadows` answer unseen.
    """

    champion: LoadedVersion | None
    canaries: tuple[tuple[Served, LoadedVersion | None], ...] = ()
    holdout: LoadedVersion | None = None
    shadows: tuple[LoadedVersion, ...] = ()

    def choose(self, unit: str) -> LoadedVersion | None:
        """Return the version that answers a unit: always the same one under the same plan.

        A canary has its share of the units that neither the holdout nor a canary before it has, so
        that shares are exact. What a canary that is not loaded would answer, the champion does.
        """
        if (held := self.holdout) and place(unit, HOLDOUT, held.row.model) < held.row.traffic:
            return held
        left = 1.0
        for row, version in self.canaries:
            if place(unit, CANARY, row.model, row.model_version) * left < row.traffic:
                return version or self.champion
            left -= row.traffic
        return self.champion

    def loaded(self) -> list[LoadedVersion]:
        """Return all of them."""
        canaries = (version for _, version in self.canaries)
        found = (self.champion, *canaries, self.holdout, *self.shadows)
        return [version for version in found if version is not None]


Plan = Mapping[str, ModelVersions]


def loaded_versions(plan: Plan) -> list[LoadedVersion]:
    """Return the versions of all models."""
    return [version for versions in plan.values() for version in versions.loaded()]


class PlanUpdate:
    """The way from the plan that serves to what the rows of the serving plan ask for.

    Versions that are loaded already are kept. When a champion cannot be loaded, the newest former
    one that can be takes its place, or else the version that serves now.

    Attributes:
        errors: why versions could not be loaded. What was among `earlier_errors` is not logged
            again.
        missing: those of them that should serve.
    """

    def __init__(
        self,
        rows: tuple[Served, ...],
        current: Plan,
        earlier_errors: Mapping[Served, str],
        load: Callable[[Served], LoadedVersion],
    ) -> None:
        self._rows = {
            model: [row for row in rows if row.model == model]
            for model in sorted({row.model for row in rows})
        }
        self._current = current
        self._earlier_errors = earlier_errors
        self._load = load
        loaded = loaded_versions(current)
        self._serving = {version.row for version in loaded}
        self._loaded = {_artifact(version.row): version for version in loaded}
        self._unloadable: dict[tuple[str, str, str], str] = {}
        self.errors: dict[Served, str] = {}
        self.missing: dict[Served, str] = {}

    def plans(self) -> Iterator[Plan]:
        """Yield the plan to serve by as soon as what answers is loaded, then with all shadows."""
        plan = {model: self._answering(model, rows) for model, rows in self._rows.items()}
        yield {model: versions for model, versions in plan.items() if versions.loaded()}
        for model, rows in self._rows.items():
            shadows = tuple(self._loadable(rows, SHADOW))
            plan[model] = replace(plan[model], shadows=shadows)
        self.missing |= {
            row: error for row, error in self.errors.items() if row.variant not in (FORMER, HOLDOUT)
        }
        yield {model: versions for model, versions in plan.items() if versions.loaded()}

    def _answering(self, model: str, rows: list[Served]) -> ModelVersions:
        """Return the versions that answer, and the shadows that are loaded already."""
        champion = self._champion(rows)
        canaries = tuple((row, self._get(row)) for row in rows if row.variant == CANARY)
        holdouts = [row for row in rows if row.variant == HOLDOUT]
        holdout = next(self._loadable(holdouts, HOLDOUT), None)
        if holdouts and holdout is None:
            self.missing[holdouts[0]] = self.errors[holdouts[0]]
        before = self._current.get(model)
        asked = {row for row in rows if row.variant == SHADOW}
        shadows = tuple(one for one in (before.shadows if before else ()) if one.row in asked)
        return ModelVersions(champion, canaries, holdout, shadows)

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
        artifact = _artifact(row)
        if artifact not in self._loaded and artifact not in self._unloadable:
            try:
                self._loaded[artifact] = self._load(row)
            except Exception as error:
                reason = f"{type(error).__name__}: {stored_line(error)}"
                self._unloadable[artifact] = self.errors[row] = reason
                if self._is_new(row):
                    logger.error(
                        "version %s of %s cannot be loaded: %s",
                        row.model_version, row.model, reason,
                    )  # fmt: skip
        if artifact in self._unloadable:
            self.errors[row] = self._unloadable[artifact]
            return None
        return replace(self._loaded[artifact], row=row)

    def _is_new(self, row: Served) -> bool:
        """Whether the error of a version is another one than before."""
        return self.errors[row] != self._earlier_errors.get(row)


def _artifact(row: Served) -> tuple[str, str, str]:
    return row.model, row.model_version, row.artifact_uri
