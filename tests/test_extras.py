"""What is not installed is named with the extra that brings it, whichever command needs it."""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import subprocess
import sys
import tomllib
import venv
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import pytest

from headrace import cli
from headrace.extras import MODULES, NEEDS, OURS

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# What others use: kafka-python is faster with the first, the others belong to dbt's adapter.
NOT_IMPORTED = {"crc32c", "sqlalchemy-risingwave"}
# What is left out of sys.path, in a process of its own, by the names of modules.
WITHOUT = """
import json, runpy, sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if any(f"{name}.".startswith(f"{gone}.") for gone in json.loads(sys.argv[1])):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
from headrace.cli import main
for arguments in json.loads(sys.argv[2]):
    print(json.dumps(arguments[0]), main(arguments), file=sys.stderr)
"""


def commands() -> dict[str, list[str]]:
    """Every command with arguments that it takes."""
    parser = cli._parser()
    (found,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return {
        name: [
            name,
            *(
                str((action.choices or ["x"])[0])
                for action in command._actions
                if not action.option_strings and action.nargs is None
            ),
        ]
        for name, command in found.choices.items()
    }


def normal(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement)[0].lower().replace("_", "-")


def lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    return done.stderr.strip().splitlines()


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that holds what `pip install headrace` brings, and no more."""
    home = tmp_path_factory.mktemp("bare")
    venv.create(home, with_pip=False)
    wanted, brought = [normal(name) for name in PROJECT["dependencies"]], set()
    while wanted:
        name = wanted.pop()
        if name in brought:
            continue
        try:
            needs = distribution(name).requires or []
        except PackageNotFoundError:  # of another version of Python
            continue
        brought.add(name)
        wanted += [normal(each) for each in needs if "extra ==" not in each]
    (site,) = home.glob("lib/python*/site-packages")
    for top, names in packages_distributions().items():
        for name in {normal(each) for each in names} & brought:
            folder = Path(str(distribution(name).locate_file("")))
            for path in [folder / top, folder / f"{top}.py"]:
                if path.exists():
                    (site / path.name).symlink_to(path)
    for package in OURS:
        (site / package).symlink_to(ROOT / package)
    return home / "bin" / "python"


def run(python: Path, *arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(python), "-I", *arguments], cwd=home, env=environment,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("command", commands())
def test_the_client_alone(bare: Path, tmp_path: Path, command: str) -> None:
    done = run(bare, "-m", "headrace.cli", *commands()[command], home=tmp_path)
    if not NEEDS.get(command, ("engine",)):
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode == 1, done.stderr
    (line,) = lines(done)
    wanted = ",".join(NEEDS.get(command, ("engine",)))
    assert line.startswith("headrace: ") and f"pip install 'headrace[{wanted}]'" in line


def test_the_client_alone_still_helps_and_sends(bare: Path, tmp_path: Path) -> None:
    for option in ("--help", "--version"):
        done = run(bare, "-m", "headrace.cli", option, home=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
    assert run(bare, "-c", "import headrace; headrace.Client().close()", home=tmp_path).stderr == ""


@pytest.mark.parametrize("extra", MODULES)
def test_an_extra_that_is_not_there_is_named(extra: str, tmp_path: Path) -> None:
    """All commands that need it, with everything else installed."""
    needing = [
        arguments for name, arguments in commands().items()
        if extra in NEEDS.get(name, ("engine",))
    ]  # fmt: skip
    environment = dict(os.environ)
    if extra == "kafka":
        environment["HEADRACE_KAFKA"] = "127.0.0.1:1"
        needing = [commands()["up"], *needing]
    if extra == "risingwave":
        environment |= {"HEADRACE_ENGINE": "risingwave", "HEADRACE_KAFKA": "127.0.0.1:1"}
        environment |= {"HEADRACE_DSN": "host=127.0.0.1", "HEADRACE_REGISTRY_DSN": "host=127.0.0.1"}
        needing = [commands()["migrate"]]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, json.dumps(MODULES[extra]), json.dumps(needing)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    said = lines(done)
    assert needing
    for arguments, told, ended in zip(needing, said[::2], said[1::2], strict=True):
        assert f"pip install 'headrace[{extra}]'" in told, arguments
        assert ended == f'"{arguments[0]}" 1'
    assert not list(tmp_path.iterdir())


def test_each_import_is_named_with_its_extra() -> None:
    """Whatever is imported anywhere comes with the client or with an extra that is known."""
    known = {name for modules in MODULES.values() for name in modules}
    base = {"msgspec", "httpx"}
    for file in (path for package in OURS for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for name in names:
                top = name.partition(".")[0]
                if top not in {*sys.stdlib_module_names, *OURS, *base}:
                    assert top in {each.partition(".")[0] for each in known}, (file, name)


def test_extras_hold_what_they_are_said_to() -> None:
    brought = packages_distributions()
    extras = {
        name: {normal(each) for each in requirements}
        for name, requirements in PROJECT["optional-dependencies"].items()
        if name not in ("all", "dev", "bench")
    }
    assert MODULES.keys() == extras.keys()
    known: set[str] = set()
    for extra, modules in MODULES.items():
        for module in modules:
            of_module = {normal(name) for name in brought[module.partition(".")[0]]}
            known |= of_module
            asked_for = of_module & set().union(*extras.values())
            assert not asked_for or asked_for & extras[extra], (extra, module)
    assert set().union(*extras.values()) - known == NOT_IMPORTED
    assert commands().keys() >= NEEDS.keys()
