"""dbt's command line for RisingWave, talking to a PostgreSQL that stands in for it.

Run as ``python -m tests.parity.dbt_risingwave ARGUMENTS``. Two things are taken from the adapter:
the settings of a session, and its list of all that exists, a query that PostgreSQL calls ambiguous.
A statement counts at once, as on RisingWave, where no transaction writes.
"""

from __future__ import annotations

import sys
from typing import Any

from dbt.adapters.risingwave.connections import RisingWaveConnectionManager
from dbt.cli.main import dbtRunner


def without_transactions(handle: Any, _: object) -> None:
    """Configure a session of PostgreSQL."""
    handle.autocommit = True


if __name__ == "__main__":
    RisingWaveConnectionManager._configure_session = staticmethod(without_transactions)  # type: ignore[method-assign, assignment]
    done = dbtRunner().invoke(["--no-populate-cache", *sys.argv[1:]])
    sys.exit(0 if done.success else 1)
