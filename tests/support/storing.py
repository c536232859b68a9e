"""A trainer that stores the sets that it is told of: for each line `RUN ROWS` one of so many rows.

usage: python -m tests.support.storing ROOT

It says `ready`, and of each set its version and hash.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

from headrace.model.examples import LabeledExample
from headrace.model.inputs import Example
from headrace.trainer.dataset import Dataset, dataset_of
from headrace.trainer.stored_set import store

MODEL = "m"
START = datetime(2025, 1, 1, tzinfo=UTC)


def dataset(run: str, rows: int) -> Dataset:
    """The set of a run, whose texts are its name."""
    example = Example(run, None, {"x": 1})
    return dataset_of(
        run,
        {"model": MODEL},
        [LabeledExample(f"r{row}", START, START, example, "yes") for row in range(rows)],
    )


if __name__ == "__main__":
    root = Path(sys.argv[1])
    print("ready", flush=True)
    for line in sys.stdin:
        run, rows = line.split()
        stored = store(root, dataset(run, int(rows)))
        print(stored.delta_version, stored.sha256, flush=True)
