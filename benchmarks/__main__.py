"""Run the benchmarks and write the tables to benchmarks/results/."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from benchmarks import finetune, ingest
from headrace.engine import Engine, open_engine
from headrace.settings import Settings

RESULTS = Path(__file__).parent / "results"
BENCHMARKS: dict[str, Callable[[Engine], str]] = {
    "ingest": ingest.run,
    "finetune": finetune.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(BENCHMARKS)}; default: all")
    names = parser.parse_args().names or list(BENCHMARKS)
    for name in names:
        if name not in BENCHMARKS:
            parser.error(f"{name}: must be one of {', '.join(BENCHMARKS)}")
        with (
            tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder,
            open_engine(Settings(home=Path(folder) / ".headrace")) as engine,
        ):
            table = BENCHMARKS[name](engine)
        (RESULTS / f"{name}.md").write_text(table)
        print(table)


if __name__ == "__main__":
    main()
