"""The demo in its fast form, as a user runs it; then once more, and interrupted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from headrace.engine.embedded import embedded_postgres
from headrace.settings import Settings


def run(home: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "headrace.cli", "--home", str(home), *arguments]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        run(home, "demo", "--fast"), capture_output=True, text=True, timeout=1_800, check=False
    )
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-3_000:]
    assert "Look further" in done.stdout
    assert "headrace train cve-triage" in " ".join(done.stdout.split())
    return home / "demo"


def test_loop_beats_the_frozen_model(demo: Path) -> None:
    summary = json.loads((demo / "summary.json").read_text())
    loop, frozen = summary["scores"]["loop"], summary["scores"]["frozen"]
    assert loop["auc"] > frozen["auc"]
    assert loop["log_loss"] < frozen["log_loss"]
    published = [row for row in summary["versions"] if row["status"] != "rejected"]
    assert len(published) >= 2
    assert summary["latency_s"].keys() >= {"trigger", "train", "gate", "serve", "total"}
    assert (demo / "curves.png").stat().st_size > 10_000


def test_everything_is_stopped_and_can_be_queried(demo: Path) -> None:
    assert embedded_postgres(Settings(home=demo)).pid() is None
    done = subprocess.run(
        run(demo, "psql", "-At", "-c", "select count(*) from headrace.labeled_examples"),
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert int(done.stdout) > 2_000
    assert embedded_postgres(Settings(home=demo)).pid() is None


def test_no_prediction_was_learned_from_its_own_future(demo: Path) -> None:
    """Each version was trained on decisions made before its first prediction."""
    query = """
        select count(*) from events.inference as asked
        inner join headrace.model_versions as versions using (model, model_version)
        inner join control.claims as claims using (run_id)
        where asked.event_time < claims.event_clock - interval '3 days'
    """
    done = subprocess.run(
        run(demo, "psql", "--owner", "-At", "-c", query),
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "0"


def test_dbt_build_passes(demo: Path) -> None:
    """Also once the log has dropped what is beyond retention, as it does each minute."""
    # Unit tests bring their own rows: tests/dbt_project/test_dbt.py runs them.
    build = ["dbt", "build", "--exclude-resource-type", "unit_test"]
    for arguments in (["psql", "--owner", "-c", "select control.expire()"], build):
        done = subprocess.run(
            run(demo, *arguments), capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stdout[-3_000:] + done.stderr


def test_interrupt_leaves_nothing_running(tmp_path: Path) -> None:
    process = subprocess.Popen(
        run(tmp_path, "demo", "--fast"), stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "reports" in line:
            break
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 130
    assert embedded_postgres(Settings(home=tmp_path / "demo")).pid() is None
    time.sleep(1)
    left = [
        entry.name
        for entry in Path("/proc").glob("[0-9]*")
        if str(tmp_path).encode() in _read(entry / "environ")
    ]
    assert left == []


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
