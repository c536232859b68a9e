"""Imports between the parts of `headrace/` follow the table of layers in docs/architecture.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "headrace"
PAGE = (ROOT / "docs" / "architecture.md").read_text()


@dataclass(frozen=True)
class Layer:
    """One row of the table; `paths` are relative to the package, a folder ends with a slash."""

    name: str
    paths: tuple[str, ...]
    may_import: frozenset[str]


@dataclass(frozen=True)
class Import:
    """`module` at `line` of `source`; both files are relative to the package."""

    source: str
    line: int
    module: str
    target: str


def layers(page: str) -> list[Layer]:
    """Read the table `layer | folder | duty | may import`, whose rows are bottom up."""
    table = page.split("| layer | folder | duty | may import |\n")[1].split("\n\n")[0]
    found: list[Layer] = []
    for line in table.splitlines()[1:]:
        name, folder, _, may = (cell.strip() for cell in line.strip("|").split("|"))
        below = {layer.name for layer in found}
        allowed = below if may == "all above" else set(re.findall(r"\w+", may))
        assert allowed <= below, f"{name} may import {allowed - below}, not in a row above"
        found.append(Layer(name, tuple(re.findall(r"`([^`]+)`", folder)), frozenset(allowed)))
    return found


def layer_of(file: str, table: list[Layer]) -> Layer | None:
    """Return the layer of a file; the longest path that fits decides."""
    fitting = [
        (len(path), layer.name, layer)
        for layer in table
        for path in layer.paths
        if file == path or (path.endswith("/") and file.startswith(path))
    ]
    return max(fitting)[2] if fitting else None


def files(package: Path) -> dict[str, Path]:
    """Return the Python files by their path in the package, linked folders included."""
    found: dict[str, Path] = {}
    for path in sorted(package.iterdir()):
        if path.is_dir():
            found |= {f"{path.name}/{name}": file for name, file in files(path).items()}
        elif path.suffix == ".py":
            found[path.name] = path
    return found


def imports(package: Path) -> Iterator[Import]:
    """Yield each import of one file of the package by another, deferred ones included."""
    modules = files(package)
    for source, path in modules.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{source}:{node.lineno}: relative import"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            for name in names:
                if name.split(".")[0] != package.name or name == f"{package.name}.__version__":
                    continue
                target = _file_of(name, modules)
                if target != source:
                    yield Import(source, node.lineno, name, target)


def _file_of(name: str, modules: Mapping[str, Path]) -> str:
    """Return the file of the longest part of a dotted name that is a module."""
    parts = name.split(".")[1:]
    for length in range(len(parts), -1, -1):
        stem = "/".join(parts[:length])
        for file in (f"{stem}.py", f"{stem}/__init__.py".removeprefix("/")):
            if file in modules:
                return file
    raise AssertionError(f"{name}: no such module")


def violations(package: Path, table: list[Layer]) -> list[str]:
    """Return a line for each file without a layer and each import that the table forbids."""
    found = [
        f"{package.name}/{file}: in no layer of docs/architecture.md"
        for file in files(package)
        if layer_of(file, table) is None
    ]
    for each in imports(package):
        source, target = layer_of(each.source, table), layer_of(each.target, table)
        if source and target and source != target and target.name not in source.may_import:
            found.append(
                f"{package.name}/{each.source}:{each.line}: imports {each.module}, but "
                f"{source.name} may import only {', '.join(sorted(source.may_import)) or 'nothing'}"
            )
    return found


def circle(package: Path) -> list[str]:
    """Return the files of a circle of imports, or an empty list."""
    graph: dict[str, set[str]] = {}
    for each in imports(package):
        graph.setdefault(each.source, set()).add(each.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_imports_follow_the_table() -> None:
    assert not violations(PACKAGE, layers(PAGE))


def test_no_circle() -> None:
    assert not circle(PACKAGE)


def test_every_path_of_the_table_exists() -> None:
    for layer in layers(PAGE):
        assert layer.paths, layer.name
        for path in layer.paths:
            assert (PACKAGE / path).exists(), f"{layer.name}: {path}"


TABLE = """
| layer | folder | duty | may import |
|---|---|---|---|
| base | `errors.py` | exceptions | |
| engine | `engine/` | database | base |
| top | `cli.py` | commands | all above |

"""


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("engine/reach.py", "import house.cli", "house/engine/reach.py:1: imports house.cli, but"),
        ("errors.py", "def f():\n    from house import engine", "house/errors.py:2: imports"),
        ("engine/reach.py", "from house.cli import main", "engine may import only base"),
        ("new/room.py", "", "house/new/room.py: in no layer of docs/architecture.md"),
    ],
)
def test_a_forbidden_import_is_found(tmp_path: Path, file: str, text: str, said: str) -> None:
    package = tmp_path / "house"
    for name in ("errors.py", "engine/__init__.py", "cli.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).touch()
    (package / "cli.py").write_text("from house.engine import open_engine\nimport house.errors\n")
    assert not violations(package, layers(TABLE))
    (package / file).parent.mkdir(exist_ok=True)
    (package / file).write_text(text + "\n")
    (found,) = violations(package, layers(TABLE))
    assert said in found


def test_a_circle_is_found(tmp_path: Path) -> None:
    package = tmp_path / "house"
    package.mkdir()
    (package / "one.py").write_text("import house.two\n")
    (package / "two.py").write_text("def f():\n    from house.one import x\n")
    assert set(circle(package)) == {"one.py", "two.py"}


def test_a_rule_that_points_upwards_is_refused() -> None:
    with pytest.raises(AssertionError, match="engine may import"):
        layers(TABLE.replace("| database | base |", "| database | top |"))
