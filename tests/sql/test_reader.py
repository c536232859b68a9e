"""The worst that the reader can do, tried in its role."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import AdminShutdown, InsufficientPrivilege

from headrace.engine import Engine
from headrace.engine.dialect import READER, Connection
from headrace.engine.embedded import EmbeddedPostgres
from headrace.events.contract import parse
from headrace.events.log import EventLog
from headrace.settings import Settings

# Default timeouts of the reader's sessions.
TIMEOUTS = ("statement_timeout", "idle_in_transaction_session_timeout", "lock_timeout")


@pytest.fixture
def address(engine: Engine, template: EmbeddedPostgres) -> str:
    return make_conninfo(engine.dsn, user=READER, password=template.password(READER))


@pytest.fixture
def reader(address: str) -> Iterator[Connection]:
    """A session of the reader that has reset every setting it can."""
    with psycopg.connect(address, autocommit=True) as connection:
        for name in TIMEOUTS:
            connection.execute(f"set {name} = 0")
        connection.execute("set default_transaction_read_only = off")
        yield connection


def own(engine: Engine, server: EmbeddedPostgres) -> Engine:
    """The same database as an embedded one, where Headrace owns the reader."""
    return Engine(engine.dsn, Settings(home=server.folder.parent))


def store(engine: Engine) -> None:
    with EventLog(engine) as log:
        log.submit("inference", [parse("inference", {"model": "m"})]).result(timeout=30)
        event = {"model": "m", "model_version": "1", "event": "trained"}
        log.submit("model_events", [parse("model_events", event)]).result(timeout=30)


@pytest.mark.parametrize(
    "statement",
    [
        "select pg_advisory_lock(7482310001)",
        "select pg_advisory_xact_lock_shared(7482310005)",
        "select pg_try_advisory_lock(1, 2)",
        "lock table locks.turn in access share mode",
        "lock table events.inference in access share mode",
        "select events.ingested_up_to()",
        "select control.expire()",
        "select lo_create(0)",
        "select lo_from_bytea(0, 'much')",
        "create temporary table mine (a int)",
        "create table public.mine (a int)",
        "create schema mine",
        "create function public.f() returns int language sql as 'select 1'",
        "select pg_notify('headrace_model_events', 'm')",
        "select pg_logical_emit_message(false, 'a', repeat('a', 100))",
        "lock table headrace.alerts in share mode",
        "select * from headrace.model_clock for share",
        "copy (select 1) to program 'true'",
        "set temp_file_limit = -1",
        "alter role headrace_reader connection limit -1",
        "alter role headrace_reader createdb",
        "alter role headrace_reader valid until 'infinity'",
        "create role mine",
        "analyze events.inference",
    ],
)
def test_a_reader_is_refused_what_holds_or_stores(reader: Connection, statement: str) -> None:
    notices: list[str] = []
    reader.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
    try:
        with reader.transaction():
            reader.execute(statement)
    except InsufficientPrivilege:
        return
    # ANALYZE warns only, and does nothing.
    assert any("permission denied" in notice for notice in notices), statement


def test_a_reader_may_not_connect_elsewhere(address: str) -> None:
    for database in ("postgres", "template1"):
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(address, dbname=database)


@pytest.mark.parametrize(
    "statements",
    [
        ["lock table headrace.model_performance, headrace.serving_plan in access share mode"],
        ["set transaction isolation level serializable", "select * from headrace.model_clock"],
        ["declare c cursor with hold for select * from headrace.model_versions", "fetch c"],
        ["listen headrace_model_events", "notify headrace_model_events, 'm'"],
        ["drop owned by current_user"],
        ["alter role headrace_reader password 'mine'"],
        ["alter role headrace_reader set statement_timeout = 0"],
    ],
)
def test_nothing_that_a_reader_leaves_open_holds_events_up(
    engine: Engine, template: EmbeddedPostgres, reader: Connection, statements: list[str]
) -> None:
    try:
        with reader.transaction(force_rollback=True):
            for statement in statements:
                reader.execute(statement)
            store(engine)
            assert engine.rows("select count(*) as n from headrace.model_versions") == [{"n": 1}]
            with engine.connect() as connection:
                engine.dialect.keep_reader(connection, engine.settings)
    finally:
        embedded = own(engine, template)
        with embedded.connect() as connection:
            embedded.dialect.keep_reader(connection, embedded.settings)


def test_connections_are_left_for_others(engine: Engine, address: str) -> None:
    opened: list[Connection] = []
    try:
        with pytest.raises(psycopg.OperationalError, match="too many connections for role"):
            for _ in range(60):
                opened.append(psycopg.connect(address))
        store(engine)
    finally:
        for connection in opened:
            connection.close()


def test_a_reader_has_time_outs_and_reads_only_unless_it_says_otherwise(address: str) -> None:
    with psycopg.connect(address) as connection:
        shown = {
            name: connection.execute(f"show {name}").fetchone()
            for name in (*TIMEOUTS, "default_transaction_read_only", "temp_file_limit")
        }
    assert shown == {
        "statement_timeout": ("1min",),
        "idle_in_transaction_session_timeout": ("1min",),
        "lock_timeout": ("10s",),
        "default_transaction_read_only": ("on",),
        "temp_file_limit": ("4GB",),
    }


def test_a_reader_finds_the_views_without_their_schema(address: str) -> None:
    with psycopg.connect(address) as connection:
        connection.execute("select * from model_performance")
        assert connection.execute("show search_path").fetchone() == ("headrace, public",)


def slept(reader: Connection) -> None:
    with pytest.raises(AdminShutdown):
        reader.execute("select pg_sleep(600)")


def left_open(reader: Connection) -> None:
    reader.execute("begin")
    reader.execute("select * from headrace.model_clock")
    with pytest.raises(psycopg.OperationalError):
        for _ in range(600):
            time.sleep(0.1)
            reader.execute("")


def looped(reader: Connection) -> None:
    with pytest.raises(AdminShutdown):
        reader.execute("do $$ begin loop commit; end loop; end $$")


@pytest.mark.parametrize("endless", [slept, left_open, looped])
def test_what_a_reader_does_without_end_is_ended(
    engine: Engine,
    template: EmbeddedPostgres,
    reader: Connection,
    endless: Callable[[Connection], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from headrace.engine import reader_role as module
    from headrace.engine.reader_role import ReaderKeeper

    monkeypatch.setattr("headrace.engine.postgres.LONGEST_READ", timedelta(seconds=1))
    monkeypatch.setattr(module, "KEEP_EVERY_S", 0.2)
    with ReaderKeeper(own(engine, template)):
        endless(reader)


def test_a_deployment_gets_past_a_reader_that_holds_on_to_a_view(
    engine: Engine, reader: Connection
) -> None:
    body = engine.rows("select pg_get_viewdef('headrace.alerts'::regclass) as body")[0]["body"]
    reader.execute("begin")
    reader.execute("lock table headrace.alerts in access share mode")
    with engine.connect() as connection:
        connection.execute("select control.replace_view('headrace.alerts', %s)", [body])
    with pytest.raises(psycopg.OperationalError):
        reader.execute("commit")


def test_what_a_reader_changed_about_itself_is_set_back(
    engine: Engine, template: EmbeddedPostgres, address: str, reader: Connection
) -> None:
    """PostgreSQL lets every role do so: nothing can be revoked."""
    database = conninfo_to_dict(address)["dbname"]
    for statement in (
        "alter role headrace_reader password 'mine'",
        "alter role headrace_reader set statement_timeout = 0",
        f"alter role headrace_reader in database {database} set lock_timeout = 0",
        "drop owned by headrace_reader",
    ):
        reader.execute(statement)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(address)
    embedded = own(engine, template)
    with embedded.connect() as connection:
        embedded.dialect.keep_reader(connection, embedded.settings)
        before = connection.execute("select xmin from pg_authid where rolname = %s", [READER])
        first = before.fetchone()
        embedded.dialect.keep_reader(connection, embedded.settings)
        again = connection.execute("select xmin from pg_authid where rolname = %s", [READER])
        assert first == again.fetchone()  # what is right is left alone
    with psycopg.connect(address, autocommit=True) as connection:
        assert connection.execute("show statement_timeout").fetchone() == ("1min",)
        assert connection.execute("show lock_timeout").fetchone() == ("10s",)
        connection.execute("select * from headrace.model_versions")
