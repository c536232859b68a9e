"""All checks of a deployment, one after the other."""

from __future__ import annotations

from headrace.operate.doctor.checks import (
    artifacts,
    catalogue,
    clock,
    deployed,
    disk,
    engine_,
    engine_of,
    reader,
    registry,
    settings_,
    versions,
)
from headrace.operate.doctor.findings import Findings, made
from headrace.settings import Settings


def examine(settings: Settings) -> Findings:
    """Make all checks; those of an engine or of brokers that cannot be reached are left out."""
    yield from made(settings_, settings)
    yield from made(disk, settings)
    yield from made(artifacts, settings)
    engine = None
    for found in made(engine_, settings):
        yield found
        if found.level != "failed":
            engine = engine_of(settings)
    if engine:
        for check in (deployed, catalogue, reader, clock, versions):
            yield from made(check, engine)
        if settings.engine == "risingwave":
            from headrace.operate.doctor.risingwave import actors, barriers

            for check in (barriers, actors):
                yield from made(check, engine)
    if settings.registry_dsn:
        yield from made(registry, settings)
    if settings.kafka:
        from headrace.operate.doctor.kafka import examine_brokers

        yield from examine_brokers(settings, engine)
