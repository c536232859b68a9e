"""Whatever a model is called, its versions have a folder of their own and touch no other one."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from headrace.control import policies
from headrace.control.claims import claim, wanted_triggers
from headrace.engine import Engine
from headrace.errors import ContractError, ModelError
from headrace.events.contract import parse
from headrace.events.log import EventLog
from headrace.model.artifact import Manifest, artifact_path, folder_name, publish_draft
from headrace.trainer.publish import next_version
from headrace.trainer.watch import MAX_ATTEMPTS, Trainer
from tests.support.churn import customers, send
from tests.support.standin import grow_old

LONGEST = ["m" * 512, "机" * 170, "😀" * 128]
NAMES = ["..", ".", "../..", "/etc", "a/../../b", "~", "C:\\x", "con", " ", "\n", "-rf", "%2e%2e",
         "v1", ".v1.1", "model.json", "é" * 40, "机" * 40, *LONGEST]  # fmt: skip


@pytest.fixture
def engine(engine: Engine) -> Engine:
    """An engine on which every model learns."""
    policies.write(engine, policies.ALL_MODELS, {"learn": "on"})
    return engine


@given(st.one_of(st.sampled_from(NAMES), st.text(min_size=1)))
def test_a_folder_name_is_one_short_plain_name(model: str) -> None:
    try:
        parse("inference", {"model": model})
    except ContractError:
        return
    name = folder_name(model)
    assert name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    assert len(name) <= 61


def test_every_name_has_a_folder_of_its_own() -> None:
    names = [*NAMES, "churn", "Churn", "CHURN", "churn ", "churn/", "m" * 511]
    assert len({folder_name(name).lower() for name in names}) == len(names)
    assert folder_name("cve-triage").startswith("cve-triage-")


@pytest.mark.parametrize("version", ["..", ".", "", "v", "v1/../..", "v1\n", "1", "latest", "v٣"])
def test_a_version_is_written_under_its_number_only(tmp_path: Path, version: str) -> None:
    draft = tmp_path / "m" / ".draft-r-1"
    draft.mkdir(parents=True)
    manifest = Manifest(recipe="tabular", task="classification")
    with pytest.raises(ModelError, match="model_version"):
        publish_draft(draft, "m", version, manifest, "")
    assert list(tmp_path.rglob("*")) == [draft.parent, draft]


def test_a_version_that_others_counted_up_to_the_end_is_not_replaced(engine: Engine) -> None:
    taken = ["v999999999", "v1000000000", "v" + "9" * 300, "v٣"]
    events = [parse("inference", {"model": "m", "model_version": name}) for name in taken]
    with EventLog(engine) as log:
        log.append("inference", events)
    assert next_version(engine, "m") == "v1000000001"


@pytest.mark.parametrize("model", ["..", *LONGEST[:2]])
def test_a_model_of_any_name_is_published_and_nothing_else_is_touched(
    engine: Engine, model: str
) -> None:
    home = engine.settings.home
    folders = [home / "v1", home / "artifacts" / "v1", home / "artifacts" / "churn" / "v1"]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "kept").touch()
    send(engine, customers(300, seed=1, model=model))
    with Trainer(engine) as trainer:
        assert trainer.run_once()
    (row,) = engine.rows("select * from headrace.serving_plan")
    assert (row["model"], row["model_version"]) == (model, "v1")
    folder = artifact_path(row["artifact_uri"], engine.settings.artifacts_path)
    assert json.loads((folder.parent / "model.json").read_text("utf-8")) == {"model": model}
    assert all((folder / "kept").exists() for folder in folders)
    assert {path.name for path in home.iterdir() if path.name != "dbt"} == {"v1", "artifacts"}


def test_a_version_that_cannot_be_written_is_rejected_with_the_reason(engine: Engine) -> None:
    file = engine.settings.home / "artifacts"
    file.parent.mkdir(parents=True)
    file.touch()
    send(engine, customers(300, seed=2))
    with Trainer(engine) as trainer:
        assert trainer.run_once()
        assert not trainer.run_once()
    (row,) = engine.rows("select status, reason from headrace.model_versions")
    assert row["status"] == "rejected" and "NotADirectoryError" in row["reason"]


def test_a_name_that_is_no_event_any_more_ends_its_run_and_no_other(engine: Engine) -> None:
    # as it could be stored before the limit was one of bytes
    long = "a" * 600
    pairs = [(structs.replace(answer, model=long), said) for answer, said in customers(300, seed=3)]
    send(engine, iter(pairs))
    send(engine, customers(300, seed=4, model="b"))
    with Trainer(engine) as trainer:
        assert trainer.run_once()
        assert trainer.run_once()
        assert not trainer.run_once()
    assert [row["model"] for row in engine.rows("select model from headrace.serving_plan")] == ["b"]


def test_a_run_that_no_trainer_survives_is_given_up(engine: Engine) -> None:
    send(engine, customers(300, seed=5))
    for _ in range(MAX_ATTEMPTS):
        (trigger,) = [each for each in wanted_triggers(engine) if each.is_due]
        assert claim(engine, trigger, "killed")
        grow_old(engine)
    with Trainer(engine) as trainer:
        assert trainer.run_once()
        assert not trainer.run_once()
    (row,) = engine.rows("select status, reason from headrace.model_versions")
    assert row["status"] == "rejected" and "3 attempts ended without a verdict" in row["reason"]


@pytest.mark.parametrize(
    "uri",
    ["..", "/etc", "file:///etc", "file:/etc", "FILE:///etc", "file:///etc%00", "{root}", "{root}/",
     "{root}/../v1", "{root}/a/../../v1", "file://{root}/%2e%2e/v1", "{root}/out", "{root}/circle",
     "{root}/none", "{root}/file", "{root}/" + "x" * 300, "models:/m/1", "s3://b/m", "http://[",
     "", "\t{root}/v1", "{root}/pipe", "{root}/linked"],
)  # fmt: skip
def test_an_artifact_elsewhere_is_not_taken(tmp_path: Path, uri: str) -> None:
    root = tmp_path / "artifacts"
    for folder in (root / "a" / "v1", root / "pipe", root / "linked", tmp_path / "v1"):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
    (root / "file").touch()
    (root / "out").symlink_to(tmp_path / "v1")
    (root / "circle").symlink_to("circle")
    os.mkfifo(root / "pipe" / "head.safetensors")
    (root / "linked" / "head.safetensors").symlink_to("/etc/passwd")
    with pytest.raises(ModelError, match="artifact_uri: "):
        artifact_path(uri.format(root=root), root)


def test_an_artifact_in_the_folder_is_taken_by_path_and_by_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "artifacts" / "ä b%41" / "v1"
    place.mkdir(parents=True)
    (tmp_path / "artifacts" / "again").symlink_to(place)
    (tmp_path / "linked").symlink_to("artifacts")
    monkeypatch.chdir(tmp_path)
    for root in (tmp_path / "artifacts", tmp_path / "linked", Path("artifacts")):
        for uri in (str(place), place.as_uri(), str(tmp_path / "artifacts" / "again")):
            assert artifact_path(uri, root).resolve() == place


def test_the_trainer_goes_on_from_no_folder_elsewhere(engine: Engine, tmp_path: Path) -> None:
    send(engine, customers(300, seed=6))
    with EventLog(engine) as log:
        event = {"model": "churn/éàü", "model_version": "theirs", "event": "promoted"}
        place = {"artifact_uri": tmp_path.as_uri(), "event_time": "2025-01-01T00:00:00Z"}
        log.append("model_events", [parse("model_events", {**event, **place})])
    os.mkfifo(tmp_path / "config.json")
    with Trainer(Engine(engine.dsn, replace(engine.settings))) as trainer:
        assert trainer.run_once()
    rows = engine.rows(
        "select parent_version from headrace.model_versions where model_version='v1'"
    )
    assert rows == [{"parent_version": "theirs"}]
