"""Sets are stored exactly, shown, compared, and rebuilt from the events, or it is said why not."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.cli import main
from headrace.engine import Engine
from headrace.errors import ModelError
from headrace.events.contract import parse
from headrace.events.log import EventLog
from headrace.features.reader import FeatureReader
from headrace.model.examples import LabeledExample, Logged
from headrace.model.inputs import Example
from headrace.trainer.dataset import Dataset, SetOf, compile_dataset, dataset_of, record_dataset
from headrace.trainer.recorded import compare, rebuild_dataset, stored_dataset
from headrace.trainer.stored_set import read_stored, store, table_path
from tests.support.claimed import READER, claimed
from tests.support.policies import set_policies
from tests.support.streams import EXAMPLES, START

_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_scalars = st.none() | st.booleans() | st.integers() | _texts | st.floats(allow_nan=False)
_times = st.integers(0, 10**12).map(lambda tick: START + timedelta(microseconds=tick))
_logged = st.builds(
    Logged,
    _texts,
    st.none() | _texts,
    st.none() | st.sampled_from([0.0, 1.0, 0.83]),
    st.none() | st.dictionaries(_texts, st.floats(0, 1), max_size=2),
)
_rows = st.builds(
    LabeledExample,
    _texts,
    _times,
    _times,
    st.builds(Example, _texts, st.none() | _texts, st.dictionaries(_texts, _scalars, max_size=4)),
    _texts,
    item_id=st.none() | _texts,
    user_id=st.none() | _texts,
    position=st.none() | st.integers(1, 9),
    propensity=st.none() | st.sampled_from([1.0, 0.5]),
    kind=_texts,
    logged=st.none() | _logged,
    rejected=st.none() | _texts,
    rejected_request_id=st.none() | _texts,
)
MODEL = "fraud"


def test_sets_of_any_rows_are_read_as_they_were_stored(tmp_path: Path) -> None:
    stored: list[Dataset] = []

    @EXAMPLES
    @given(st.lists(_rows, max_size=5))
    def check(rows: list[LabeledExample]) -> None:
        dataset = store(tmp_path, dataset_of(f"run {len(stored)}", {"model": "größe"}, rows))
        stored.append(dataset)
        assert dataset.delta_version == len(stored) - 1
        for one in (dataset, stored[len(stored) // 2]):
            assert one.delta_version is not None
            again = read_stored(tmp_path, one.dataset_id, one.query, one.delta_version)
            assert again == one and repr(again.rows).count("1.0") == repr(one.rows).count("1.0")

    check()


PARTS = [*(one.name for one in fields(LabeledExample)), "features"]


@settings(max_examples=300, deadline=None)
@given(row=_rows, other=_rows, part=st.sampled_from(PARTS))
def test_the_hash_sees_all_of_a_row(row: LabeledExample, other: LabeledExample, part: str) -> None:
    if part == "features":
        new: dict[str, Any] = {"example": replace(row.example, features=other.example.features)}
    else:
        new = {part: getattr(other, part)}
    changed = replace(row, **new)
    one, two = (dataset_of("run", {}, [each]).sha256 for each in (row, changed))
    assert (one == two) == (as_text(row) == as_text(changed))


def as_text(row: LabeledExample) -> str:
    """The row, 1 apart from 1.0 and true; features have no order."""
    features = dict(sorted(row.example.features.items()))
    return repr(replace(row, example=replace(row.example, features=features)))


def test_a_set_is_one_version_however_often_it_is_stored(tmp_path: Path) -> None:
    row = LabeledExample("r", START, START, Example("", None, {"x": 0.83}), "yes")
    first = store(tmp_path, dataset_of("first", {"model": "m"}, [row]))
    store(tmp_path, dataset_of("never published", {"model": "m"}, []))
    assert store(tmp_path, first).delta_version == first.delta_version == 0
    assert store(tmp_path, dataset_of("first", {"model": "m"}, [row, row])).delta_version == 2
    with pytest.raises(ModelError, match="must hold first, got never published"):
        read_stored(tmp_path, "first", first.query, 1)
    with pytest.raises(ModelError, match="cannot be read"):
        read_stored(tmp_path, "first", first.query, 7)


def told(log: EventLog, count: int = 12, start: int = 0) -> None:
    for number in range(start, count):
        at = (START + timedelta(minutes=number)).isoformat()
        row = {"request_id": f"r{number}", "event_time": at}
        of = {"model": MODEL, "segment": "a", "features": {"x": number / 2}, "item_id": "i1"}
        log.append(
            "inference",
            [parse("inference", {**row, **of, "user_id": "ana", "position": 2, "propensity": 0.5,
                                 "prediction": "no", "score": 0.25, "input": f"text {number}",
                                 "probabilities": {"no": 0.75, "yes": 0.25}})],
        )  # fmt: skip
        log.append("feedback", [parse("feedback", {**row, "label": "ny"[number % 2]})])


def compiled(engine: Engine, number: int, reader: Any, task: SetOf = "classification") -> Dataset:
    """The set of a run, stored and recorded."""
    claim = claimed(engine, MODEL, number)
    dataset = compile_dataset(engine, claim, reader, task)
    dataset = store(engine.settings.artifacts_path, dataset)
    with engine.writing() as connection:
        record_dataset(engine, connection, claim, dataset)
    return dataset


def test_rows_say_what_was_logged_and_what_made_the_label(engine: Engine, log: EventLog) -> None:
    told(log, 1)
    (row,) = compiled(engine, 0, READER).rows
    assert (row.item_id, row.user_id, row.position, row.propensity) == ("i1", "ana", 2, 0.5)
    assert row.logged == Logged("unversioned", "no", 0.25, {"no": 0.75, "yes": 0.25})
    assert row.kind == "label"
    set_policies(engine, MODEL, default_label="no", label_window="0 hours")
    log.append("inference", [parse("inference", {"model": MODEL, "request_id": "silent",
                                                 "event_time": START.isoformat()})])  # fmt: skip
    kinds = {row.request_id: row.kind for row in compiled(engine, 1, READER).rows}
    assert kinds == {"r0": "label", "silent": "default"}


def test_preferences_and_texts_to_generate(engine: Engine, log: EventLog) -> None:
    answers = {"a": "blue", "b": "red", "c": "green", "d": "pink"}
    for name, answer in answers.items():
        row = {"model": MODEL, "request_id": name, "event_time": START.isoformat()}
        log.append("inference", [parse("inference", {**row, "input": "sky?", "output": answer})])
    later = (START + timedelta(hours=1)).isoformat()
    said: list[dict[str, Any]] = [
        {"kind": "preference", "request_id": "a", "rejected_request_id": "b", "user_id": "ana"},
        {"kind": "preference", "request_id": "c", "rejected_request_id": "b", "value": 0.5},
        {
            "kind": "preference",
            "request_id": "d",
            "rejected_request_id": "c",
            "feedback_id": "gone",
        },
        {"kind": "retraction", "request_id": "d", "retracts": "gone"},
        {"kind": "correction", "request_id": "b", "label": "azure"},
        {"kind": "thumbs", "request_id": "a", "value": 1},
        {"kind": "thumbs", "request_id": "c", "value": -1},
        {"kind": "label", "request_id": "d", "label": "wrong"},
    ]
    rows = [parse("feedback", {"event_time": later, **one}) for one in said]
    log.append("feedback", rows)
    pairs = compiled(engine, 0, READER, "preference")
    (pair,) = pairs.rows
    assert (pair.request_id, pair.example.text, pair.label) == ("a", "sky?", "blue")
    assert (pair.rejected_request_id, pair.rejected, pair.user_id) == ("b", "red", "ana")
    texts = compiled(engine, 1, READER, "generation")
    assert {row.request_id: (row.label, row.kind) for row in texts.rows} == {
        "a": ("blue", "thumbs"), "b": ("azure", "correction"),
    }  # fmt: skip
    changed = {"kind": "preference", "request_id": "b", "rejected_request_id": "a"}
    log.append("feedback", [parse("feedback", {**changed, "user_id": "ana"})])
    for dataset in (pairs, texts):
        assert rebuild_dataset(engine, dataset.dataset_id, READER).rows == dataset.rows
        assert stored_dataset(engine, dataset.dataset_id).rows == dataset.rows
    with pytest.raises(ModelError, match="task: must be one of classification, preference, gen"):
        compiled(engine, 2, READER, "ranking")  # type: ignore[arg-type]


def test_runs_replay_other_samples_and_hold_the_same_rows_out(
    engine: Engine, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.trainer.dataset.RECENT", 3)
    monkeypatch.setattr("headrace.trainer.dataset.REPLAY", 6)
    told(log, 60)
    sets = [compiled(engine, number, READER) for number in range(6)]
    newest = {"r57", "r58", "r59"}
    chosen = [frozenset(row.request_id for row in one.rows) for one in sets]
    assert len(set(chosen)) == 6
    for one, ids in zip(sets, chosen, strict=True):
        assert newest < ids and 6 <= len(ids) <= 9
        assert rebuild_dataset(engine, one.dataset_id, READER).sha256 == one.sha256


def test_the_old_holdout_is_spread_over_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.trainer.dataset.OLD_HOLDOUT_MAX", 20)
    rows = [
        LabeledExample(f"r{i}", START + timedelta(minutes=i), START, Example(""), "a")
        for i in range(2_000)
    ]
    _, newest, old = dataset_of("d", {}, rows).split()
    edge = 2_000 - len(newest)
    places = [int(row.request_id[1:]) for row in old]
    assert len(places) == 20 and places == sorted(places)
    assert places[4] < edge / 2 < places[-4]


def test_commands_show_compare_and_rebuild(
    engine: Engine,
    log: EventLog,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HEADRACE_DSN", engine.dsn)
    monkeypatch.setenv("HEADRACE_HOME", str(engine.settings.home))
    told(log)
    with FeatureReader(engine) as reader:
        one = compiled(engine, 0, reader)
        told(log, 14, 12)
        log.append("feedback", [parse("feedback", {"request_id": "r3", "kind": "correction",
                                                   "label": "maybe"})])  # fmt: skip
        other = compiled(engine, 1, reader)
    runs = one.dataset_id, other.dataset_id
    changes = compare(one, other)
    assert [row.request_id for row in changes.added] == ["r12", "r13"] and not changes.removed
    assert changes.changed_labels == 1

    assert main(["dataset", "show", runs[0], "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["examples"], shown["sha256"]) == (12, one.sha256)
    assert (shown["labels"], shown["kinds"]) == ({"n": 6, "y": 6}, {"label": 12})
    assert main(["dataset", "show", runs[0]]) == 0
    assert "n: 6, y: 6" in capsys.readouterr().out
    assert main(["dataset", "diff", *runs]) == 0
    said = capsys.readouterr().out
    assert said.startswith("2 rows added, 0 removed, 1 changed (1 in the label") and "maybe" in said

    with engine.connect() as connection:
        for pane in ("known_labels", "segment_label_panes"):
            connection.execute(f"truncate panes.{pane}")  # as retention would, in time
    for run in runs:
        assert main(["dataset", "rebuild", run]) == 0
        assert "the same as recorded" in capsys.readouterr().out
    with engine.connect() as connection:
        connection.execute("delete from events.inference where request_id = 'r5'")
        connection.execute("delete from events.feedback where request_id = 'r7'")
    assert main(["dataset", "rebuild", runs[0]]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "against the stored version 0 with 12 rows" in said
    assert "2 removed" in said and "1 have no prediction" in said and "1 no feedback" in said
    assert main(["dataset", "show", "nothing"]) == 1
    assert "run: must be a dataset_id" in capsys.readouterr().err
    assert main(["dataset", "diff", runs[0]]) == 2
    assert "must have RUN 2 times, got 1" in capsys.readouterr().err
    assert table_path(engine.settings.artifacts_path, MODEL).is_dir()
