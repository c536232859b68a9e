"""All checks of a deployment, in order."""

from __future__ import annotations

from headrace.operate.doctor import checks
from headrace.operate.doctor.findings import Findings, run
from headrace.settings import Settings


def examine(settings: Settings) -> Findings:
    """Run all checks, except those that need an engine or brokers that cannot be reached."""
    for check in (checks.check_settings, checks.check_disk, checks.check_artifacts):
        yield from run(check, settings)
    engine = None
    for finding in run(checks.check_engine, settings):
        yield finding
        if finding.level != "failed":
            engine = checks.engine_of(settings)
    if engine:
        for check_engine in (
            checks.check_deployed,
            checks.check_catalogue,
            checks.check_reader,
            checks.check_clock,
            checks.check_versions,
        ):
            yield from run(check_engine, engine)
        if settings.engine == "risingwave":
            from headrace.operate.doctor.risingwave import check_actors, check_barriers

            for check_cluster in (check_barriers, check_actors):
                yield from run(check_cluster, engine)
    if settings.registry_dsn:
        yield from run(checks.check_registry, settings)
    if settings.kafka:
        from headrace.operate.doctor.kafka import examine_brokers

        yield from examine_brokers(settings, engine)
