"""The command on training sets: dataset show, diff and rebuild."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from headrace.cli.command import as_json, command, on_engine
from headrace.operate.printing import print_json, print_table

if TYPE_CHECKING:
    from headrace.engine import Engine
    from headrace.model.examples import LabeledExample
    from headrace.trainer.recorded import Differences

RUNS = {"show": 1, "diff": 2, "rebuild": 1}
SHOWN, WIDTH = 5, 40  # rows of a change, and characters of a text


@command(
    example="headrace dataset diff 0199a3f0 0199b112 --json",
    needs=("engine", "features", "model"),
)
@click.argument("what", type=click.Choice([*RUNS]))
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@as_json
@on_engine
def dataset(engine: Engine, what: str, runs: tuple[str, ...], as_json: bool) -> None:
    """Show the training set of a run, compare those of two, or rebuild one from the events.

    A RUN is the dataset_id of a version in headrace.model_versions. `show` and `diff` read the
    stored rows; `rebuild` makes them again, and fails where they differ.
    """
    from headrace.trainer import recorded

    if len(runs) != RUNS[what]:
        raise click.UsageError(f"dataset {what}: must have RUN {RUNS[what]} times, got {len(runs)}")
    if what == "show":
        found = recorded.summary(
            recorded.record_of(engine, runs[0]), recorded.stored_dataset(engine, runs[0])
        )
        print_json(found) if as_json else _show(found)
    elif what == "diff":
        one, other = (recorded.stored_dataset(engine, run) for run in runs)
        _diff(recorded.compare(one, other), as_json)
    else:
        from headrace.features import FeatureReader

        service = recorded.service_of(recorded.record_of(engine, runs[0]))
        with FeatureReader(engine, service) as reader:
            rebuilt = recorded.rebuild_dataset(engine, runs[0], reader)
        if as_json:
            print_json({"run": runs[0], "examples": len(rebuilt.rows), "sha256": rebuilt.sha256})
        else:
            print(f"{len(rebuilt.rows)} rows, the same as recorded: sha256 {rebuilt.sha256}")


def _show(found: dict[str, Any]) -> None:
    rows = found.pop("first_rows")
    facts = {
        name: ", ".join(f"{key}: {count}" for key, count in value.items())
        if isinstance(value, dict)
        else value
        for name, value in found.items()
    }
    print_table([{"set": name, "": value} for name, value in facts.items()])
    print()
    print_table(
        [
            {
                "request_id": row["request_id"],
                "event_time": row["event_time"],
                "label": row["label"][:WIDTH],
                "kind": row["kind"],
                "segment": row["example"]["segment"],
                "text": row["example"]["text"][:WIDTH],
            }
            for row in rows
        ]
    )


def _diff(found: Differences, as_json: bool) -> None:
    rows = [
        *({"change": "added", **_told(None, row)} for row in found.added[:SHOWN]),
        *({"change": "removed", **_told(row, None)} for row in found.removed[:SHOWN]),
        *({"change": "changed", **_told(*pair)} for pair in found.changed[:SHOWN]),
    ]
    if as_json:
        print_json(
            {
                "added": len(found.added),
                "removed": len(found.removed),
                "changed": len(found.changed),
                "changed_labels": found.changed_labels,
                "changed_features": found.changed_features,
                "first_rows": rows,
            }
        )
    else:
        print(found)
        print_table(rows)


def _told(before: LabeledExample | None, after: LabeledExample | None) -> dict[str, Any]:
    """A changed row in short: its labels, and the names of the features that differ."""
    one = after or before
    assert one is not None
    return {
        "request_id": one.request_id,
        "item_id": one.item_id,
        "event_time": one.event_time,
        "label_before": before and before.label[:WIDTH],
        "label_after": after and after.label[:WIDTH],
        "features": ", ".join(before.features_unlike(after)) if before and after else None,
    }
