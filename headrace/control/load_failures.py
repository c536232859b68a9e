"""The versions that gateways should serve and cannot load: ``control.load_failures``."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping

from headrace.control.plan import Served
from headrace.engine import Engine

RENEW_S, LOOK_S = 15.0, 60.0
# A gateway whose rows were not renewed for a minute is gone.
_KEPT = """
select
    gateway, model, model_version, variant,
    seen_at < now() - interval '60 seconds' as is_gone
from control.load_failures
"""
_KEY = ("gateway", "model", "model_version", "variant")
_DELETE = f"delete from control.load_failures where {' and '.join(f'{one} = %s' for one in _KEY)}"


class LoadFailures:
    """Keeps the rows of this gateway, and removes those of gateways that are gone."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._gateway = f"{platform.node()}:{engine.settings.port}"
        self._noted: Mapping[Served, str] | None = None
        self._again_at = 0.0

    def note(self, failures: Mapping[Served, str]) -> None:
        """Make `failures`, with why, the rows of this gateway.

        Raises:
            EngineError, psycopg.Error: the database does not answer; the next call does it.
        """
        if failures == self._noted and time.monotonic() < self._again_at:
            return
        (clock,) = self._engine.rows("select now() as moment")
        rows = [
            {
                "gateway": self._gateway, "model": row.model, "model_version": row.model_version,
                "variant": row.variant, "error": error, "seen_at": clock["moment"],
            }
            for row, error in failures.items()
        ]  # fmt: skip
        wanted = {tuple(row[name] for name in _KEY) for row in rows}
        kept = {tuple(row[name] for name in _KEY): row for row in self._engine.rows(_KEPT)}
        over = [
            key
            for key, row in kept.items()
            if key not in wanted and (row["is_gone"] or row["gateway"] == self._gateway)
        ]
        if rows or over:
            with self._engine.writing() as connection:
                if rows:
                    self._engine.dialect.put(connection, "control.load_failures", list(_KEY), rows)
                for key in over:
                    connection.execute(_DELETE, key)
        self._noted = dict(failures)
        self._again_at = time.monotonic() + (RENEW_S if failures else LOOK_S)
