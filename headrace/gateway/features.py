"""Features of the store for a batch of requests, whatever versions they ask."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from headrace.gateway.jobs import Job
from headrace.gateway.versions import LoadedVersion, Online
from headrace.model.inputs import Example

if TYPE_CHECKING:
    from headrace.features.lookup import Asked, LookedUp

logger = logging.getLogger(__name__)

Question = tuple[LoadedVersion, Job]


@dataclass(frozen=True, slots=True)
class Given:
    """An example with the features that its version is given.

    Attributes:
        known_at: of each view that features were looked up in the event time of the row, None where
            it has none; empty where they could not be read, None where nothing was looked up.
        failed: whether they could not be read; None where nothing was looked up for this version.
    """

    example: Example
    known_at: Mapping[str, datetime | None] | None
    failed: bool | None = None


def with_features(questions: Sequence[Question]) -> list[Given]:
    """Return the example of each question with the features that its version reads.

    Each view is read once for all of them. What the request says itself is not looked up. Where
    the store fails, the examples stay without its features.
    """
    given = [Given(job.example, job.known_at) for _, job in questions]
    asked: list[Asked] = []
    places: list[int] = []
    for place, (version, job) in enumerate(questions):
        if version.online and (one := _asked(version.online, job)):
            asked.append(one)
            places.append(place)
    for place, found in zip(places, _found(asked), strict=True):
        example, known_at = given[place].example, given[place].known_at
        if found is None:
            given[place] = Given(example, known_at or {}, failed=True)
        else:
            read = {name: _scalar(value) for name, value in found.features.items()}
            given[place] = Given(
                replace(example, features={**read, **example.features}),
                {**(known_at or {}), **found.known_at},
                failed=False,
            )
    return given


def ages(event_time: datetime, known_at: Mapping[str, datetime | None]) -> dict[str, float | None]:
    """Return `known_at` as an event has it: seconds before the time of the request."""
    return {
        view: None if at is None else (event_time - at).total_seconds()
        for view, at in known_at.items()
    }


def _asked(online: Online, job: Job) -> Asked | None:
    """What is to be looked up for a job; None where its request has it all."""
    from headrace.features.lookup import Asked

    needed, given = online.needed, job.example.features
    if given and not given.keys().isdisjoint(needed.names):
        needed = online.reader.needed([name for name in needed.names if name not in given])
    return Asked(online.reader, needed, job.entity) if needed.names else None


def _found(asked: Sequence[Asked]) -> list[LookedUp | None]:
    """Look all up together; where that fails, each service alone, and None for what fails."""
    if not asked:
        return []
    from headrace.features.lookup import look_up

    try:
        return [*look_up(asked)]
    except Exception:
        services = defaultdict(list)
        for place, one in enumerate(asked):
            services[id(one.reader)].append(place)
        if len(services) == 1:
            logger.exception("the feature store failed; predicting without its features")
            return [None] * len(asked)
    alone = {
        place: found
        for places in services.values()
        for place, found in zip(places, _found([asked[place] for place in places]), strict=True)
    }
    return [alone[place] for place in range(len(asked))]


def _scalar(value: object) -> str | int | float | bool | None:
    """Return a value from the feature store; None for one that an event cannot hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool) else None
