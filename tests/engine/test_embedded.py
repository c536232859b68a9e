"""A server whose starter was killed anywhere comes up the next time."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from headrace.engine.embedded import DATABASE, USER, EmbeddedPostgres, embedded_postgres
from headrace.engine.programs import as_server
from headrace.errors import EngineError
from headrace.settings import Settings


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    found = embedded_postgres(Settings(home=tmp_path / ".headrace"))
    yield found
    found.stop()


def answers(server: EmbeddedPostgres) -> bool:
    with psycopg.connect(server.dsn) as connection:
        return connection.execute("select 1").fetchone() == (1,)


def test_what_a_killed_first_start_left_is_made_anew(server: EmbeddedPostgres) -> None:
    half = server.folder / "data.new-killed"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    for name in (f"password-{USER}", "password-headrace_reader", "port", "initdb-password"):
        (server.folder / name).touch()
    with server.running():
        assert answers(server)
        assert server.password(USER) and server.password("headrace_reader")
        assert not half.exists()


def test_an_initdb_that_is_killed_is_run_again(server: EmbeddedPostgres) -> None:
    def kill() -> None:
        while not (made := list(server.folder.glob("data.new-*"))):
            time.sleep(0.001)
        name = os.fsencode(made[0])
        while made[0].exists():
            for process in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):
                    if name in (process / "cmdline").read_bytes():
                        os.kill(int(process.name), signal.SIGKILL)
            time.sleep(0.001)

    killer = threading.Thread(target=kill)
    killer.start()
    with server.running():
        assert answers(server)
    killer.join()


def test_the_owner_s_password_is_not_made_anew_for_data_that_it_does_not_open(
    server: EmbeddedPostgres,
) -> None:
    with server.running():
        (server.folder / f"password-{USER}").write_text("")
        with pytest.raises(EngineError, match="password-headrace is gone or empty"):
            server.password(USER)
        pid = server.pid()
    assert pid is not None and server.pid() is None


def test_a_server_that_runs_without_our_database_gets_it(server: EmbeddedPostgres) -> None:
    with server.running():
        with psycopg.connect(server.dsn, dbname="postgres", autocommit=True) as connection:
            connection.execute(f"drop database {DATABASE}")
        second = EmbeddedPostgres(server.folder)
        with second.running():
            assert answers(second)


def test_the_port_is_that_of_the_running_server(server: EmbeddedPostgres) -> None:
    with server.running():
        (server.folder / "port").write_text("1")
        with EmbeddedPostgres(server.folder).running() as second:
            assert answers(second)


def test_a_backend_that_outlives_its_server_does_not_keep_it_from_starting(
    server: EmbeddedPostgres,
) -> None:
    def compute() -> None:
        with pytest.raises(psycopg.OperationalError), psycopg.connect(server.dsn) as connection:
            connection.execute("do $$ begin loop null; end loop; end $$")

    with server.running():
        busy = threading.Thread(target=compute)
        busy.start()
        while not computing(server):
            time.sleep(0.05)
        pid = server.pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        while server.pid() is not None:
            time.sleep(0.05)
        assert computing(server)
        assert server.revive()
        assert answers(server)
        busy.join()


def test_a_server_that_hangs_in_its_recovery_is_started_anew(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.engine.embedded.LOOK_EVERY_S", 1)

    def victims(what: str) -> list[int]:
        return [pid for pid, does in server.processes().items() if does.startswith(what)]

    with server.running():
        hung = server.pid()
        os.kill(victims("background writer")[0], signal.SIGKILL)
        while not (recovering := victims("startup")):
            assert server.pid() == hung
        os.kill(recovering[0], signal.SIGKILL)
        while not server.revive():
            time.sleep(0.1)
        assert answers(server) and server.pid() != hung


def test_a_dead_server_that_nobody_collects_is_not_taken_for_alive(
    server: EmbeddedPostgres,
) -> None:
    """Another process stands for it: one of the server's user, which has its id."""
    with server.running():
        server.kill()
        while server.pid() is not None or server.processes():
            time.sleep(0.05)
        notes = server.data / "postmaster.pid"
        with subprocess.Popen(["sleep", "600"], **as_server()) as other:
            try:
                notes.write_text("\n".join([str(other.pid), *notes.read_text().splitlines()[1:]]))
                assert server.revive()
                assert answers(server)
            finally:
                other.kill()


def computing(server: EmbeddedPostgres) -> bool:
    """Whether a backend of this server runs a DO block."""
    return any(does.endswith(" DO") for does in server.processes().values())


def test_two_that_start_at_once_share_one_server(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    failed: list[BaseException] = []
    ready = threading.Barrier(3)

    def use() -> None:
        try:
            with EmbeddedPostgres(folder).running() as mine:
                assert answers(mine)
                ready.wait(60)
        except BaseException as error:
            failed.append(error)
            ready.abort()

    threads = [threading.Thread(target=use) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert EmbeddedPostgres(folder).pid() is None
