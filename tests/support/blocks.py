"""The code blocks of the docs, and how to run each kind.

A block without a language, or with one that is not in RUN, is an error, so a new block is run by
default. Output and diagrams are `text`. A block `python file` is a file that others use, under the
name in its first line; tests/docs/test_recipes.py tries what it does. Shell commands in NOT_HERE
are skipped. A request that must be refused says so in a comment, with the status:
`# 422: no such label`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml  # type: ignore[import-untyped]

from headrace.events.contract import STRUCTS, parse

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "deploy" / "README.md",
    ROOT / "data" / "README.md",
]
# First words of a command, and why it is not run.
NOT_HERE = {
    "make": "make demo is tests/demo/test_demo.py, make test is what runs this",
    "headrace up": "blocks run beside one that is already up",
    "headrace dashboards push": "it needs a Grafana: tests/dashboards/test_push.py",
    "python -m venv flower": "`make flower` does it for tests/federated",
    "flower/bin/pip": "`make flower` does it for tests/federated",
    "flower/bin/headrace": "it needs other sites: tests/federated",
    "docker": "there is no daemon: deploy/README.md says what was checked",
    "kubectl": "there is no cluster: deploy/README.md says what was checked",
}
OWNER_SQL = ("alter", "create", "delete", "grant", "insert", "truncate", "update")
TIMEOUT_S = 300
READ_TOML = """\
import pathlib, sys
from headrace.alerting.receivers import read_receivers
from headrace.declared import read_declared
read_declared(pathlib.Path(sys.argv[1]))
read_receivers(pathlib.Path(sys.argv[1]))
"""
# Prints the status of each response on standard error.
CURL = """\
#!/bin/sh
exec {curl} --write-out '%{{stderr}}STATUS %{{http_code}}\\n' "$@"
"""


@dataclass(frozen=True)
class Block:
    """The text between two fences; `line` is that of the first one."""

    page: Path
    line: int
    language: str
    options: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Place:
    """A folder with a running `.headrace`, in which blocks run as a user would run them."""

    folder: Path
    url: str
    environment: dict[str, str]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
        )  # fmt: skip


class BrokenBlockError(AssertionError):
    """A block failed."""


def blocks() -> list[Block]:
    """Return all blocks of all pages, in order."""
    return [block for page in PAGES for block in _of_page(page)]


def file_name(block: Block) -> str:
    """Return the name in the first line of a file: `# train.py`."""
    return block.text.partition("\n")[0].removeprefix("# ")


def check(block: Block, place: Place) -> None:
    """Run a block.

    Raises:
        BrokenBlockError: with the place of the block and its output.
    """
    try:
        run = RUN[block.language]
    except KeyError:
        raise BrokenBlockError(
            f"{block}: a block needs a language out of {', '.join(RUN)}, got {block.language!r}"
        ) from None
    if problem := run(block, place):
        raise BrokenBlockError(f"{block}: {problem}")


def statements(text: str) -> Iterator[str]:
    """Split a shell script into complete commands, with their line ends."""
    begun = ""
    for line in text.splitlines(keepends=True):
        begun += line
        done = subprocess.run(["bash", "-n"], input=begun, capture_output=True, text=True)
        if done.returncode == 0 and not begun.endswith("\\\n"):
            yield begun
            begun = ""
    if begun:
        yield begun


def left_out(statement: str) -> str | None:
    """Return the key of NOT_HERE that matches a command, or None."""
    words = statement.strip().removeprefix(".venv/bin/")
    return next((begin for begin in NOT_HERE if f"{words} ".startswith(f"{begin} ")), None)


def _of_page(page: Path) -> Iterator[Block]:
    lines = page.read_text().splitlines()
    fences = [number for number, line in enumerate(lines) if line.lstrip().startswith("```")]
    for first, last in zip(fences[::2], fences[1::2], strict=True):
        info = lines[first].strip().removeprefix("```").split()
        body = "\n".join(lines[first + 1 : last]) + "\n"
        yield Block(page, first + 1, info[0] if info else "", tuple(info[1:]), body)


def _here(text: str, place: Place) -> str:
    """Replace the default address by that of the place."""
    address = place.url.removeprefix("http://")
    text = re.sub(r"(127\.0\.0\.1|localhost):8321", address, text)
    return text.replace("Client()", f'Client("{place.url}")')


def _python(block: Block, place: Place) -> str:
    if "file" in block.options:
        (place.folder / file_name(block)).write_text(block.text)
        return ""
    # The line numbers of a traceback are those of the page.
    script = place.folder / f"{block.page.stem}-{block.line}.py"
    script.write_text("\n" * block.line + _here(block.text, place))
    done = place.run(sys.executable, str(script))
    # A client that could not deliver events logs it and goes on.
    return done.stdout + done.stderr if done.returncode or done.stderr else ""


def _shell(block: Block, place: Place) -> str:
    lines = "".join(
        ":" + "\n" * statement.count("\n") if left_out(statement) else statement
        for statement in statements(_here(block.text, place))
    )
    script = f"trap 'echo \"line $((LINENO + {block.line})): $BASH_COMMAND\" >&2' ERR; {lines}"
    done = place.run("bash", "-eu", "-o", "pipefail", "-c", script)
    if done.returncode:
        return done.stdout + done.stderr
    wanted = {int(status) for status in re.findall(r"# ([45]\d\d): ", block.text)}
    came = {int(status) for status in re.findall(r"STATUS (\d+)", done.stderr)}
    refused = {status for status in came if not 200 <= status < 300}
    return "" if refused == wanted else f"answered {came}, refusals: {wanted}\n{done.stdout}"


def _console(block: Block, place: Place) -> str:
    typed = [line.removeprefix("$ ") for line in block.text.splitlines() if line.startswith("$ ")]
    text = "\n".join(typed) + "\n"
    return _shell(Block(block.page, block.line, "sh", (), text), place) if typed else "no `$ `"


def _sql(block: Block, place: Place) -> str:
    script = place.folder / f"{block.page.stem}-{block.line}.sql"
    script.write_text(block.text)
    words = re.sub(r"--.*", "", block.text).split()
    option = ["--owner"] if words[0].lower() in OWNER_SQL else []
    done = place.run("headrace", "psql", *option, "-v", "ON_ERROR_STOP=1", "-f", str(script))
    return done.stderr if done.returncode else ""


def _json(block: Block, _: Place) -> str:
    try:
        content = json.loads(block.text)
        for topic in block.options:
            for event in content if isinstance(content, list) else [content]:
                parse(topic, event)  # type: ignore[arg-type]
    except ValueError as error:
        return str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    unknown = set(block.options) - STRUCTS.keys()
    return f"no topics: {', '.join(unknown)}" if unknown else ""


def _toml(block: Block, place: Place) -> str:
    path = place.folder / f"{block.page.stem}-{block.line}.toml"
    path.write_text(block.text)
    done = place.run(sys.executable, "-c", READ_TOML, str(path))
    return done.stderr if done.returncode else ""


def _yaml(block: Block, _: Place) -> str:
    yaml.safe_load(block.text)
    return ""


def _http(block: Block, place: Place) -> str:
    head, _, body = block.text.partition("\n\n")
    (method, path, *_), *headers = (line.split() for line in head.splitlines())
    answer = httpx.request(
        method,
        place.url + path,
        headers={name.rstrip(":"): " ".join(value) for name, *value in headers},
        content=body,
        timeout=30,
    )
    return "" if answer.is_success else f"answered {answer.status_code}: {answer.text}"


def _nothing(*_: Any) -> str:
    return ""


RUN: dict[str, Callable[[Block, Place], str]] = {
    "python": _python,
    "sh": _shell,
    "console": _console,
    "sql": _sql,
    "json": _json,
    "toml": _toml,
    "yaml": _yaml,
    "http": _http,
    "text": _nothing,
}
