"""Write the tables of docs/other-libraries.md: `make other-libraries`, outside of CI and the tests.

Two environments with pinned versions are made in temporary folders (from PyPI, up to 3 GB each). It
fails when a number no longer follows from the rule that the page gives for it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

from benchmarks.other_libraries import ours
from benchmarks.other_libraries.data import draw
from benchmarks.other_libraries.rules import checks
from benchmarks.other_libraries.tables import tables
from benchmarks.report import say

RUNNERS = Path(__file__).parent / "runners"
PAGE = Path(__file__).parents[2] / "docs" / "other-libraries.md"
QUIET = {"NML_DISABLE_USAGE_LOGGING": "1", "PYTHONWARNINGS": "ignore"}


def main() -> None:
    sets = draw()
    found: dict[str, Any] = {}
    for name in ("batch", "streams"):
        found |= run(name, sets)
    say("Headrace")
    found["Headrace"] = ours.measure(sets)
    write(sets, found)


def write(sets: dict[str, Any], found: dict[str, Any]) -> None:
    """Write the page, then exit with what is no longer explained."""
    explained = checks(sets, found)
    made = tables(found, explained)
    PAGE.write_text(
        re.sub(
            r"<!-- (\w+) -->.*?<!-- /\1 -->",
            lambda match: f"<!-- {match[1]} -->\n\n{made[match[1]]}\n<!-- /{match[1]} -->",
            PAGE.read_text(),
            flags=re.DOTALL,
        )
    )
    wrong = [each for each in explained if not each.gap <= each.tolerance]
    sys.exit("\n".join(f"no longer explained: {each}" for each in wrong) or None)


def run(name: str, sets: dict[str, Any]) -> dict[str, Any]:
    """Return what the libraries of one environment say."""
    with tempfile.TemporaryDirectory(prefix="headrace-libraries-") as folder:
        say(f"{name}: installing")
        venv.create(folder, with_pip=True)
        python = Path(folder, "Scripts" if os.name == "nt" else "bin", "python")
        requirements = RUNNERS / f"requirements-{name}.txt"
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
             "-r", requirements], check=True,
        )  # fmt: skip
        say(f"{name}: running")
        done = subprocess.run(
            [python, RUNNERS / f"{name}.py"], input=json.dumps(sets), stdout=subprocess.PIPE,
            text=True, env={**os.environ, **QUIET}, check=True,
        )  # fmt: skip
        result: dict[str, Any] = json.loads(done.stdout)
        return result


if __name__ == "__main__":
    main()
