"""Run the benchmarks and write the tables to benchmarks/results/."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from benchmarks import (
    acknowledge,
    dataset,
    drift,
    encoders,
    features,
    federated,
    finetune,
    forgetting,
    ingest,
    kafka,
    llm,
    lora,
    moments,
    online,
    policies,
    serving,
    statistics,
    storage,
    tabular,
    vectors,
    views,
    visible,
)
from headrace.deploy import ready_engine
from headrace.engine import Engine
from headrace.settings import Settings

RESULTS = Path(__file__).parent / "results"
DOCS = Path(__file__).parents[1] / "docs"
MEASURED = "\n## Measured\n\n"
BENCHMARKS: dict[str, Callable[[Engine, bool], str]] = {
    "ingest": ingest.run,
    "acknowledge": acknowledge.run,
    "views": views.run,
    "visible": visible.run,
    "drift": drift.run,
    "storage": storage.run,
    "kafka": kafka.run,
    "statistics": statistics.run,
    "online": online.run,
    "forgetting": forgetting.run,
    "dataset": dataset.run,
    "features": features.run,
    "llm": llm.run,
    "encoders": encoders.run,
    "serving": serving.run,
    "finetune": lambda engine, _: finetune.run(engine),
    "lora": lora.run,
    "federated": federated.run,
    "moments": moments.run,
    "tabular": tabular.run,
    "policies": policies.run,
    "vectors": vectors.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(BENCHMARKS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="small sizes; print, write no table")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in BENCHMARKS:
            parser.error(f"{name}: must be one of {', '.join(BENCHMARKS)}")
    for name in arguments.names or BENCHMARKS:
        with (
            tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder,
            ready_engine(Settings(home=Path(folder) / ".headrace")) as engine,
        ):
            text = BENCHMARKS[name](engine, arguments.quick)
        if not arguments.quick:
            _write(name, text)
        print(text)


def _write(name: str, text: str) -> None:
    """Write a table to a file of its own, or to the end of the page about it."""
    page = DOCS / f"{name}.md"
    if name in ("statistics", "forgetting", "vectors"):
        page.write_text(page.read_text().partition(MEASURED)[0] + MEASURED + text)
    else:
        (RESULTS / f"{name}.md").write_text(text)


if __name__ == "__main__":
    main()
