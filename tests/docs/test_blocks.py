"""Every code block of the docs runs as written, against one fresh `headrace up`."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.engine import Engine
from headrace.engine.embedded import embedded_postgres
from headrace.features.reader import environment
from headrace.settings import Settings
from tests.support import blocks
from tests.support.blocks import CURL, NOT_HERE, ROOT, Block, BrokenBlockError, Place

FIRST = [block for block in blocks.blocks() if block.page.name == "README.md"]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    # Not in pytest's own folder: run by root, pytest makes that unreadable for PostgreSQL's user.
    with tempfile.TemporaryDirectory(prefix="headrace-docs-") as name:
        folder = Path(name)
        (folder / ".venv").symlink_to(sys.prefix)
        (folder / "feature_repo").symlink_to(ROOT / "feature_repo")
        shutil.copytree(ROOT / "deploy", folder / "deploy")
        own = {key: text for key, text in os.environ.items() if not key.startswith("HEADRACE_")}
        own |= {
            "PATH": f"{folder / 'bin'}:{sys.prefix}/bin:{own['PATH']}",
            "PYTHONPATH": f"{ROOT}:{own.get('PYTHONPATH', '')}".rstrip(":"),
        }
        (folder / "bin").mkdir()
        if curl := shutil.which("curl"):
            (folder / "bin" / "curl").write_text(CURL.format(curl=curl))
            (folder / "bin" / "curl").chmod(0o755)
        up = subprocess.Popen(
            [sys.executable, "-m", "headrace.cli", "up"], cwd=folder, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**own, "HEADRACE_PORT": "0"},
        )  # fmt: skip
        try:
            said = output_until_ready(up, folder)
            (url,) = re.findall(r"http://\S+", said)
            home = folder / ".headrace"
            engine = Engine(embedded_postgres(Settings(home=home)).dsn, Settings(home=home))
            yield Place(folder, url, {**own, **environment(engine)})
        finally:
            up.send_signal(signal.SIGINT)
            up.communicate(timeout=120)
        assert up.returncode == 0


def output_until_ready(up: subprocess.Popen[str], folder: Path) -> str:
    """Return what the first `up` prints until it is ready; it prints before it works."""
    assert up.stdout is not None
    said = up.stdout.readline()
    assert said == f"home     {folder / '.headrace'}\n"
    assert not (folder / ".headrace" / "postgres" / "port").exists()
    for line in up.stdout:
        said += line
        if line.startswith("Ctrl-C"):
            break
    steps = ["PostgreSQL: making the database", "tables: ", "views: reading", "gateway: "]
    assert [said.count(f"\n{step}") for step in steps] == [1, 1, 1, 1], said
    assert re.search(r"^views: \d+/\d+$", said, re.MULTILINE)
    return said


@pytest.mark.parametrize("block", blocks.blocks(), ids=str)
def test_block_works(place: Place, block: Block) -> None:
    if "curl " in block.text and not shutil.which("curl"):
        pytest.skip("there is no curl here")
    blocks.check(block, place)


def test_the_first_lines_of_an_application_are_watched(place: Place) -> None:
    """As README says, its model is in the views and is not trained or replaced."""
    script = next(block for block in FIRST if block.language == "python")
    (model,) = re.findall(r'model="(\w+)"', script.text)
    blocks.check(script, place)
    status = place.run("headrace", "status")
    assert re.search(rf"^{model} ", status.stdout, re.MULTILINE)
    counted = place.run(
        "headrace", "psql", "-Atc",
        f"select sum(inferences) > 0 and sum(labeled) > 0 from headrace.model_performance "
        f"where model = '{model}' and window_name = '1 day'",
    )  # fmt: skip
    assert counted.stdout == "t\n"
    versions = place.run("headrace", "versions", model, "--json")
    assert versions.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("", "x\n"),
        ("ruby", "x\n"),
        ("python", "import headrace\nheadrace.Client('http://127.0.0.1:8321').predict('none')\n"),
        (
            "python",
            "import headrace, logging\nwith headrace.Client('http://127.0.0.1:1') as client:\n"
            "    client.inference(model='m')\n    client.close(timeout_s=0.1)\n",
        ),
        ("sh", "headrace status | grep nothing-like-that\necho ok\n"),
        ("sh", "curl -s localhost:8321/v1/inferences -d nonsense\n"),
        ("sh", "curl -s localhost:8321/healthz  # 404: not at all\n"),
        ("toml", "[models.m]\nrecipe = 'tabula'\n"),
        ("console", "ok\n"),
        ("sql", "select * from headrace.no_view;\n"),
        ("sql", "select * from control.policies;\n"),
        ("json inference", '{"model": "m", "score": 2}\n'),
        ("json inferences", '{"model": "m"}\n'),
        ("json", "{model: 1}\n"),
        ("http", "POST /v1/no-such-path HTTP/1.1\nContent-Type: application/json\n\n{}\n"),
    ],
)
def test_a_broken_block_is_found(place: Place, language: str, text: str) -> None:
    name, *options = language.split() or [""]
    with pytest.raises(BrokenBlockError, match=r"README.md:7: "):
        blocks.check(Block(ROOT / "README.md", 7, name, tuple(options), text), place)


def test_every_skipped_command_occurs() -> None:
    found = {
        blocks.left_out(statement.removeprefix("$ "))
        for block in blocks.blocks()
        if block.language in ("sh", "console")
        for statement in blocks.statements(block.text)
    }
    assert found - {None} == NOT_HERE.keys()
