"""Trainers that store sets in one table at the same instant, and one that is killed meanwhile."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from deltalake import DeltaTable

from headrace.trainer.stored_set import read_stored, store, table_path
from tests.support.storing import MODEL, dataset

TRAINERS, ROUNDS = 3, 5
ROWS = 20_000  # writing them takes a while


@contextmanager
def trainer(root: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.support.storing", str(root)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert heard(process) == "ready"
        try:
            yield process
        finally:
            process.kill()


def tell(process: subprocess.Popen[str], run: str, rows: int) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{run} {rows}\n")
    process.stdin.flush()


def heard(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def versions(root: Path) -> list[set[str]]:
    """The runs whose rows each version holds."""
    path = table_path(root, MODEL)
    last = DeltaTable(path).version()
    return [
        set(DeltaTable(path, version=version).to_pyarrow_table()["text"].to_pylist())
        for version in range(last + 1)
    ]


def test_of_sets_that_are_stored_at_once_each_is_one_version(tmp_path: Path) -> None:
    """Each trainer has a run of its own, and all together have one, as after a take-over."""
    with ExitStack() as stack:
        trainers = [stack.enter_context(trainer(tmp_path)) for _ in range(TRAINERS)]
        for turn in range(ROUNDS):
            runs = [f"own-{turn}-{number}" for number in range(TRAINERS)]
            for process, run in zip(trainers, runs, strict=True):
                tell(process, f"shared-{turn}", 5)
                tell(process, run, 5)
            said = [[heard(process) for _ in range(2)] for process in trainers]
            assert len({shared for shared, _ in said}) == 1
            for (_, own), run in zip(said, runs, strict=True):
                version, sha256 = own.split()
                stored = read_stored(tmp_path, run, {"model": MODEL}, int(version))
                assert stored.sha256 == sha256 == dataset(run, 5).sha256
    held = versions(tmp_path)
    assert len(held) == ROUNDS * (TRAINERS + 1)
    assert all(len(runs) == 1 for runs in held)


def test_a_set_whose_trainer_was_killed_is_one_version_after_it_is_stored_again(
    tmp_path: Path,
) -> None:
    """Killed once its rows are being written, and once the version is there."""
    path = table_path(tmp_path, MODEL)
    with ExitStack() as stack:
        for number, seen in enumerate(("*.parquet", "_delta_log/*1.json")):
            process = stack.enter_context(trainer(tmp_path))
            before = set(path.glob(seen))
            tell(process, f"run-{number}", ROWS)
            while set(path.glob(seen)) == before:
                time.sleep(0.0005)
            process.kill()
            stored = store(tmp_path, dataset(f"run-{number}", ROWS))
            assert stored.delta_version == number
            again = read_stored(tmp_path, f"run-{number}", {"model": MODEL}, number)
            assert again.sha256 == stored.sha256
    assert versions(tmp_path) == [{"run-0"}, {"run-1"}]
