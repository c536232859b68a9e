"""The feature service of a model: declared, learned from, and said by its versions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from headrace.control.claims import Claim
from headrace.declared import Declared
from headrace.engine import Engine
from headrace.errors import ModelError, SettingError
from headrace.events.contract import parse
from headrace.events.log import EventLog
from headrace.features.reader import FeatureReader
from headrace.model.artifact import Manifest
from headrace.model.examples import LabeledExample
from headrace.model.inputs import Example
from headrace.trainer import run
from headrace.trainer.brief import Brief, Lookups, Marks, read_brief
from headrace.trainer.dataset import Dataset, record_dataset
from headrace.trainer.gate import GatePolicy
from headrace.trainer.recipes import find
from headrace.trainer.recorded import rebuild_dataset, record_of, service_of
from headrace.trainer.watch import Trainer
from tests.support.claimed import claimed

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CLAIM = Claim("m/1", "m", "w", "run", 1, NOW, NOW, NOW)
OURS = ("users__n", "users__rate")


def manifest(folder: Path, **how: Any) -> tuple[Manifest, tuple[str, ...]]:
    """What is said of a version that was trained, and the numbers that it reads."""
    rows = [
        LabeledExample(
            f"r{n}", NOW + timedelta(minutes=n), NOW,
            Example("", None, {"own": float(n % 5), "users__n": n % 3, "old__n": n % 7}),
            "ny"[n % 5 > 2],
        )
        for n in range(200)
    ]  # fmt: skip
    brief = Brief(
        CLAIM, Dataset("d", {}, "", rows), None, "y", GatePolicy(suspect_auc=1.1), folder, Marks(),
        **how,
    )  # fmt: skip
    draft = folder / "draft"
    draft.mkdir()
    candidate = run.train(brief, draft, lambda _: None).candidate
    assert candidate is not None
    return candidate.manifest, tuple(find("tabular").load(draft).features)


@pytest.mark.parametrize(
    ("features", "looked_up"), [(None, OURS), (("own", "users__n"), ("users__n",))]
)
def test_a_version_says_what_it_was_trained_with_and_knows_no_other_service(
    tmp_path: Path, features: tuple[str, ...] | None, looked_up: tuple[str, ...]
) -> None:
    """`old__n` was served by another service, so this version would not be given it."""
    lookups = Lookups("personal_v1", OURS, frozenset({"old__n", "old__rate"}))
    said, reads = manifest(tmp_path, lookups=lookups, declared=Declared(features=features))
    assert (said.feature_service, said.looked_up) == ("personal_v1", looked_up)
    assert reads == ("own", "users__n")


def test_versions_of_before_mean_the_service_that_there_was(tmp_path: Path) -> None:
    assert Manifest(recipe="tabular", task="classification").feature_service == "training_v1"
    said, reads = manifest(tmp_path)
    assert (said.feature_service, said.looked_up) == ("training_v1", None)
    assert reads == ("old__n", "own", "users__n")


def test_a_set_is_built_and_rebuilt_with_the_declared_service(
    engine: Engine, log: EventLog
) -> None:
    for n in range(3):
        at = {"event_time": (NOW + timedelta(minutes=n)).isoformat(), "request_id": f"r{n}"}
        log.append("inference", [parse("inference", {"model": "m", "user_id": "u", **at})])
        log.append("feedback", [parse("feedback", {**at, "label": "y"})])
    claim = claimed(engine, "m", 1)
    with FeatureReader(engine, "entities_v1") as reader, FeatureReader(engine) as other:
        brief = read_brief(engine, claim, reader)
        assert brief.lookups == Lookups("entities_v1", tuple(reader.names), reader.others)
        assert "user_features__last_seen" in reader.others
        assert set(other.others) > set(reader.names) - set(other.names)
        counts = [row.example.features["user_features__labels_30d"] for row in brief.dataset.rows]
        assert counts == [None, 1, 2]
        with engine.writing() as connection:
            record_dataset(engine, connection, claim, brief.dataset)
        assert service_of(record_of(engine, claim.run_id)) == "entities_v1"
        assert rebuild_dataset(engine, claim.run_id, reader).rows == brief.dataset.rows
        with pytest.raises(ModelError, match="must be built with entities_v1, got training_v1"):
            rebuild_dataset(engine, claim.run_id, other)


def test_a_service_that_is_not_there_is_named(engine: Engine) -> None:
    path = engine.settings.models_path
    path.write_text('[models.m]\nfeature_service = "personal"\n')
    said = (
        rf"^{path.name}: models.m.feature_service: must be one of entities_v1, training_v1, "
        r"got 'personal'$"
    )
    try:
        with Trainer(engine) as trainer, pytest.raises(SettingError, match=said):
            trainer.declare()
    finally:
        path.unlink()
