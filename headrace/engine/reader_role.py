"""The role of dashboards and analysts, kept to reading.

`sql/postgres/005_roles.sql` says what it may do; `ReaderKeeper` restores that when it was changed.
"""

from __future__ import annotations

import logging
import threading

import psycopg

from headrace.engine import Engine
from headrace.engine.dialect import READER
from headrace.errors import EngineError, one_line

log = logging.getLogger(__name__)

KEEP_EVERY_S = 5.0


class ReaderKeeper:
    """Ends sessions of the reader that last too long and restores its rights, every few seconds.

    A context manager with a thread of its own. On RisingWave it does nothing.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="headrace-reader", daemon=True)

    def __enter__(self) -> ReaderKeeper:
        if self._engine.dialect.has_temporary_tables:
            self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        said = ""
        while not self._stopping.wait(KEEP_EVERY_S):
            try:
                with self._engine.connect(application_name="headrace reader") as connection:
                    self._engine.dialect.keep_reader(connection, self._engine.settings)
            except (psycopg.Error, EngineError) as error:
                if said != (said := one_line(error)):
                    log.warning("cannot restore the rights of %s: %s", READER, said)
