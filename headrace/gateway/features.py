"""Features of the store for a batch of requests, whatever versions they ask."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from headrace.gateway.jobs import Job
from headrace.gateway.versions import LoadedVersion, Online
from headrace.model.inputs import Example

if TYPE_CHECKING:
    from headrace.features.lookup import Asked, LookedUp

logger = logging.getLogger(__name__)

Question = tuple[LoadedVersion, Job]


def with_features(questions: Sequence[Question]) -> list[Example]:
    """Return the example of each question with the features that its version reads.

    Each view is read once for all of them. What the request says itself is not looked up. Where
    the store fails, the examples stay without its features.
    """
    examples = [job.example for _, job in questions]
    asked: list[Asked] = []
    places: list[int] = []
    for place, (version, job) in enumerate(questions):
        if version.online and (one := _asked(version.online, job)):
            asked.append(one)
            places.append(place)
    for place, found in zip(places, _found(asked), strict=True):
        if found is not None:
            read = {name: _scalar(value) for name, value in found.features.items()}
            example = examples[place]
            examples[place] = replace(example, features={**read, **example.features})
    return examples


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
