"""What is not installed is named with the extra that brings it; what is imported is declared."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import click
import pytest

from headrace.cli import root
from headrace.cli.command import Command
from headrace.extras import MODULES

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Which distributions bring a top-level module.
INSTALLED = packages_distributions()
# Folders of the product, and those that only a checkout has.
PRODUCT = ("headrace", "trainer", "dashboards", "feature_repo")
OTHERS = ("tests", "benchmarks", "docs")
# Declared and imported by none of our modules: what needs them.
INDIRECT = {
    "httptools": "uvicorn",
    "crc32c": "kafka-python",
    "lz4": "kafka-python",
    "python-snappy": "kafka-python",
    "zstandard": "kafka-python",
    "dbt-postgres": "dbt, for the profile of PostgreSQL",
    "dbt-risingwave": "dbt, for the profile of RisingWave",
    "sqlalchemy": "Feast's registry",
    "psycopg-pool": "Feast's online store",
    "sqlalchemy-risingwave": "risingwave-py",
    "pandas-stubs": "mypy",
    "pytest-xdist": "make test",
    "ruff": "make lint",
    "mypy": "make lint",
    "sqlfluff": "make lint",
    "pre-commit": "contributors",
}
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


def needs(name: str) -> tuple[str, ...]:
    command = root.commands[name]
    assert isinstance(command, Command)
    return command.needs


def commands() -> dict[str, list[str]]:
    """Every command with arguments that it takes."""
    return {
        name: [
            name,
            *(
                parameter.type.choices[0] if isinstance(parameter.type, click.Choice) else "x"
                for parameter in command.params
                if isinstance(parameter, click.Argument) and parameter.required
            ),
            *(
                word
                for parameter in command.params
                if isinstance(parameter, click.Option) and parameter.required
                for word in (parameter.opts[0], "x")
            ),
        ]
        for name, command in root.commands.items()
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
    for top, names in INSTALLED.items():
        for name in {normal(each) for each in names} & brought:
            folder = Path(str(distribution(name).locate_file("")))
            for path in [folder / top, folder / f"{top}.py"]:
                if path.exists():
                    (site / path.name).symlink_to(path)
    (site / "headrace").symlink_to(ROOT / "headrace")
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
    if not needs(command):
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode == 1, done.stderr
    (line,) = lines(done)
    wanted = ",".join(needs(command))
    assert line.startswith("headrace: ")
    assert line.endswith(f"needs `pip install 'headrace[{wanted}]'`")


def test_the_client_alone_still_helps_and_sends(bare: Path, tmp_path: Path) -> None:
    for option in ("--help", "--version"):
        done = run(bare, "-m", "headrace.cli", option, home=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
    assert run(bare, "-c", "import headrace; headrace.Client().close()", home=tmp_path).stderr == ""


@pytest.mark.parametrize("extra", MODULES)
def test_an_extra_that_is_not_there_is_named(extra: str, tmp_path: Path) -> None:
    """All commands that need it, with everything else installed."""
    needing = [arguments for name, arguments in commands().items() if extra in needs(name)]
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


def imports(*folders: str) -> Iterator[tuple[str, Path]]:
    """Yield each imported module that is not of Python or of this repository, and the file.

    Runners of other libraries have environments of their own.
    """
    ours = {*sys.stdlib_module_names, *PRODUCT, *OTHERS}
    for path in sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        if path.parent.name == "runners":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for name in names:
                if name.partition(".")[0] not in ours:
                    yield name, path


def distributions(module: str) -> set[str]:
    """Those that bring a module; one of the same name if it is not installed."""
    top = module.partition(".")[0]
    return {normal(name) for name in INSTALLED.get(top, [top])}


def declared(*extras: str) -> set[str]:
    """The distributions of the base install and of extras."""
    optional = PROJECT["optional-dependencies"]
    asked = [*PROJECT["dependencies"], *(each for extra in extras for each in optional[extra])]
    return {normal(each) for each in asked} - {"headrace"}


def extras_of(module: str) -> list[str]:
    return [
        extra
        for extra, modules in MODULES.items()
        if any(f"{known}.".startswith(f"{module.partition('.')[0]}.") for known in modules)
    ]


def test_the_product_imports_what_is_declared_for_it() -> None:
    """In the base install, or in the extra at which `headrace.extras` has the module."""
    for module, path in imports(*PRODUCT):
        if not distributions(module) & declared():
            extras = extras_of(module)
            assert extras, f"{path}: {module} is at no extra of headrace.extras"
            assert any(distributions(module) & declared(extra) for extra in extras), module


def test_tests_import_what_is_declared_for_development() -> None:
    known = declared(*PROJECT["optional-dependencies"])
    for module, path in imports(*OTHERS):
        assert distributions(module) & known, f"{path}: {module} is not declared"


def test_what_is_declared_is_used() -> None:
    used = set().union(*(distributions(module) for module, _ in imports(*PRODUCT, *OTHERS)))
    everything = declared(*PROJECT["optional-dependencies"])
    assert not everything - used - INDIRECT.keys()
    assert INDIRECT.keys() <= everything


def test_extras_hold_what_they_are_said_to() -> None:
    extras = PROJECT["optional-dependencies"].keys() - {"all", "dev", "bench"}
    assert MODULES.keys() == extras
    for extra, modules in MODULES.items():
        for module in modules:
            assert distributions(module) & declared(extra), (extra, module)
    (everything,) = PROJECT["optional-dependencies"]["all"]
    together = set(everything.removeprefix("headrace[").removesuffix("]").split(","))
    assert together == extras - {"federated"}  # which needs an environment of its own


def test_what_is_declared_is_pinned() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pinned = {normal(line) for line in lines if "==" in line}
    extras = PROJECT["optional-dependencies"].keys() - {"bench", "federated"}
    assert not declared(*extras) - pinned
