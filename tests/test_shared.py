"""What tests share is in a module of its own: none takes it from another test or a conftest."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OF_A_TEST = re.compile(r"tests\.(\w+\.)*(test_\w+|conftest)\b")


def taken(text: str) -> list[str]:
    """Return what a module imports of test modules and conftests."""
    names = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in names if OF_A_TEST.match(name)]


def test_nothing_is_taken_from_a_test() -> None:
    modules = [path for folder in ("tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    assert len(modules) > 100
    found = {str(path.relative_to(ROOT)): taken(path.read_text()) for path in modules}
    assert not {path: names for path, names in found.items() if names}


@pytest.mark.parametrize(
    "text",
    [
        "from tests.conftest import x",
        "from tests.events.kafka.conftest import x",
        "from tests.sql import test_limits",
        "def f():\n    import tests.sql.test_limits",
    ],
)
def test_what_is_taken_is_found(text: str) -> None:
    assert taken(text) and not taken("from tests.support.streams import x\nimport test_x")
