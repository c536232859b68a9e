"""Nothing that a user can set, call or send goes without a word in the docs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from headrace.alerting.formats import MOST
from headrace.alerting.receivers import Receiver
from headrace.cli import main, root
from headrace.engine import Engine
from headrace.events.contract import STRUCTS
from headrace.gateway.app import ENDPOINTS
from headrace.gateway.scaling import NUMBERS
from headrace.settings import describe

ROOT = Path(__file__).parents[2]
OPERATING = (ROOT / "docs" / "operating.md").read_text()
EVENTS = (ROOT / "docs" / "events.md").read_text()


def rows(text: str) -> dict[str, list[str]]:
    """Return the rows of all Markdown tables by the first cell, without back-ticks."""
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| `")
    ]
    return {row[0].strip("`"): row[1:] for row in cells}


def test_every_setting_with_its_default() -> None:
    documented = rows(OPERATING)
    for variable, default, _ in describe():
        assert variable in documented, variable
        assert documented[variable][0].strip("`") == default, variable
    named = {name for name in documented if name.startswith("HEADRACE_")}
    assert named == {variable for variable, _, _ in describe()}


@pytest.mark.parametrize("name", root.commands)
def test_every_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"headrace {name}" in rows(OPERATING)
    assert main([name, "--help"]) == 0
    assert f"headrace {name}" in capsys.readouterr().out.split("example:")[1]


def test_every_policy_with_its_default(engine: Engine) -> None:
    documented = rows(OPERATING)
    for row in engine.rows("select policy, default_value from control.policy_kinds"):
        shown = documented[row["policy"]][0].strip("`")
        assert not row["default_value"] or shown == row["default_value"], row


def test_every_key_of_a_receiver() -> None:
    documented = rows((ROOT / "docs" / "alerts.md").read_text())
    assert {*Receiver.__struct_fields__, *NUMBERS, *MOST} <= documented.keys()


def test_every_endpoint() -> None:
    assert {name for name in rows(EVENTS) if name.startswith(("GET", "POST", "PUT"))} == set(
        ENDPOINTS
    )


@pytest.mark.parametrize("topic", STRUCTS)
def test_every_field(topic: str) -> None:
    section = EVENTS.split(f"## {topic}\n")[1].split("\n## ")[0]
    named = set(re.findall(r"`(\w+)`", section))
    for field in STRUCTS[topic].__struct_fields__:  # type: ignore[index]
        assert field in named, field


def test_documents_exist_where_they_are_linked() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
