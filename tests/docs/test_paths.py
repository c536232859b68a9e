"""The files, modules and sections that the docs and the Makefile name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from headrace.events.contract import TOPICS
from tests.support.blocks import PAGES, ROOT
from tests.support.longest_first import LONGEST

WRITTEN = [*PAGES, ROOT / "SECURITY.md", ROOT / "CHANGELOG.md"]
FOLDERS = (
    "benchmarks|dashboards|data|dbt_project|deploy|docs|feature_repo|headrace|sql|tests|trainer"
)
# What a reader of the docs creates, and labels of Kubernetes.
NO_PATHS = re.compile(r"feedback_by_kind|twin|headrace/(reads|sends)|^headrace\.toml$")
# Relations and functions of the engine and topics, which are also named headrace.NAME.
RELATIONS = {path.stem for path in (ROOT / "dbt_project" / "models").rglob("*.sql")} | {
    name
    for path in (ROOT / "sql" / "postgres").glob("*.sql")
    for name in re.findall(r"function headrace\.(\w+)", path.read_text())
}


def names(page: Path) -> list[str]:
    """Return the texts in backticks, outside of code blocks."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [name for name in re.findall(r"`([^`\n]+)`", text) if not NO_PATHS.search(name)]


def module_exists(name: str) -> bool:
    """Return whether a dotted name is a module, or up to two names inside of one."""
    parts = name.split(".")
    stems = ["/".join(parts[:length]) for length in range(len(parts), 1, -1)]
    return any((ROOT / f"{stem}.py").exists() or (ROOT / stem).is_dir() for stem in stems[:3])


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_paths_exist(page: Path) -> None:
    found = [name for name in names(page) if re.fullmatch(rf"({FOLDERS})/[\w./*-]*", name)]
    missing = [name for name in found if not list(ROOT.glob(name.rstrip("/")))]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_modules_exist(page: Path) -> None:
    found = {name.split("(")[0] for name in names(page) if re.match(r"headrace\.[a-z_]+", name)}
    missing = {
        name
        for name in found
        if not module_exists(name) and name.split(".")[1] not in RELATIONS | {*TOPICS, "rejected"}
    }
    assert not {name for name in missing if re.fullmatch(r"[\w.]+", name)}


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_sections_exist(page: Path) -> None:
    for target, section in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", page.read_text()):
        linked = page.parent / target if target else page
        assert linked.exists(), f"{page.name}: {target}"
        if section:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
            assert section in map(slug, headings), f"{page.name}: {target}#{section}"


def test_the_quick_tests_exist() -> None:
    listed = re.search(r"^QUICK := (.*?[^\\])$", (ROOT / "Makefile").read_text(), re.M | re.S)
    assert listed
    names = listed[1].replace("\\\n", " ").split()
    assert len(names) > 20
    assert [name for name in names if not (ROOT / "tests" / name).exists()] == []


def test_the_longest_tests_exist() -> None:
    assert [name for name in LONGEST if not (ROOT / "tests" / name).exists()] == []
