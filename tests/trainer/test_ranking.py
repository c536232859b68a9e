"""Rankings by clicks of users who look at few positions, in a bad order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from headrace.control.claims import Claim
from headrace.declared import Declared
from headrace.errors import NothingToLearnError
from headrace.model.artifact import publish_draft
from headrace.model.examination import UNKNOWN, Examination, choice_weights
from headrace.model.examples import LabeledExample
from headrace.model.inputs import Example
from headrace.model.recipe import TrainingExample, TrainingSet
from headrace.trainer import run
from headrace.trainer.answers import measured
from headrace.trainer.brief import Brief, Marks
from headrace.trainer.clicked import Requests
from headrace.trainer.compare import METRICS, Measured
from headrace.trainer.dataset import Dataset
from headrace.trainer.gate import GatePolicy, decide
from headrace.trainer.paired import Floats
from headrace.trainer.recipes import load, ranking

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ITEMS = 8


def shown(requests: int, seed: int, logged: bool) -> tuple[list[LabeledExample], Floats]:
    """Items, the worst ones first, clicked if looked at (1 / position) and wanted; their wants."""
    rng = np.random.default_rng(seed)
    rows, wants = [], []
    for number in range(requests):
        fit, taste = rng.normal(size=(2, ITEMS))
        kind = rng.choice(["a", "b"], ITEMS)
        wanted = 1 / (1 + np.exp(1 - 1.2 * fit - (kind == "a") * taste))
        for position, item in enumerate(np.argsort(fit + 0.7 * rng.normal(size=ITEMS)), 1):
            row = LabeledExample(
                f"r{number}",
                NOW + timedelta(minutes=number),
                NOW,
                Example(
                    "", None, {"fit": fit[item], "taste": taste[item], "kind": str(kind[item])}
                ),
                str(int(rng.random() < wanted[item] / position)),
                position=position,
                propensity=1 / position if logged else None,
            )
            rows.append(row)
            wants.append(wanted[item])
    return rows, np.array(wants)


def order_found(rows: Sequence[LabeledExample], folder: Path, clip: float = 10.0) -> float:
    """NDCG of the true wants in new requests, by a version that learned from `rows`."""
    train = [
        TrainingExample(
            row.example, row.label, request_id=row.request_id, position=row.position,
            propensity=row.propensity,
        )
        for row in rows
    ]  # fmt: skip
    folder.mkdir()
    config = ranking.Config(clip=clip, steps=400)
    ranking.fit(TrainingSet("m", "ranking", train), None, config, lambda *_: None, folder)
    asked, wants = shown(150, 99, logged=False)
    said = ranking.load(folder).predict([row.example for row in asked])
    assert said.shape == (len(asked),)
    assert ((said >= 0) & (said <= 1)).all()
    return float(ndcg_score(wants.reshape(-1, ITEMS), said.reshape(-1, ITEMS)))


@pytest.mark.parametrize("logged", [True, False])
def test_the_order_is_found_that_users_want(logged: bool, tmp_path: Path) -> None:
    rows, _ = shown(250, 0, logged)
    assert Examination.of(rows).source == ("logged" if logged else "estimated")
    found = order_found(rows, tmp_path / "v1")
    assert found > order_found(rows, tmp_path / "alike", clip=1.0) + 0.015
    assert found > 0.92


def test_looks_are_estimated_from_clicks() -> None:
    rows, _ = shown(500, 1, logged=False)
    found = Examination.of(rows)
    for position in range(1, ITEMS + 1):
        assert found.by_position[position] == pytest.approx(1 / position, abs=0.25)
    assert found.looked_at([replace(rows[0], position=1_000)], 100)[0] == found.by_position[ITEMS]
    assert found.looked_at([replace(rows[0], position=None)], 100) == [1.0]


def test_choices_count_by_their_inverse_propensity() -> None:
    rows, _ = shown(20, 0, logged=False)
    chosen = [replace(row, propensity=0.02 + 0.9 * (n % 7 == 0)) for n, row in enumerate(rows)]
    assert Examination.of(chosen).source == "estimated"
    assert choice_weights(chosen[:2], UNKNOWN, 10) == [pytest.approx(1 / 0.92), 10]
    assert choice_weights([*chosen, rows[0]], UNKNOWN, 10) == [1.0] * (len(rows) + 1)


def test_a_version_learns_choices_by_their_inverse_propensity(tmp_path: Path) -> None:
    """As if each were given so often."""
    rows, _ = shown(40, 3, logged=False)
    chances = [0.05 if row.example.features["kind"] == "a" else 0.8 for row in rows]
    said = []
    for name, weighs, logs in (
        ("weights", True, False),
        ("logged", False, True),
        ("no", False, False),
    ):
        train = [
            TrainingExample(
                row.example, row.label, request_id=row.request_id, position=row.position,
                weight=min(1 / chance, 10) if weighs else 1.0, propensity=chance if logs else None,
            )
            for row, chance in zip(rows, chances, strict=True)
        ]  # fmt: skip
        folder = tmp_path / name
        folder.mkdir()
        config = ranking.Config(clip=10, steps=20)
        ranking.fit(TrainingSet("m", "ranking", train), None, config, lambda *_: None, folder)
        said.append(ranking.load(folder).predict([row.example for row in rows]))
    assert said[0] == pytest.approx(said[1], abs=1e-6)
    assert np.abs(said[1] - said[2]).max() > 0.02


@pytest.mark.parametrize("seed", range(3))
def test_ndcg_is_scikits_with_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [
        LabeledExample(
            f"r{number % 5}", NOW, NOW, Example(), str(rng.integers(2)), position=1 + number // 5,
            propensity=1 / (1 + number // 5),
        )
        for number in range(40)
    ]  # fmt: skip
    said = rng.integers(0, 4, 40) / 4
    requests = Requests(rows, Examination.of(rows))
    found = requests.parts(said)["ndcg"]
    for number in range(5):
        of = [n for n, row in enumerate(rows) if row.request_id == f"r{number}"]
        gains = [float(rows[n].label) * (rows[n].position or 1) for n in of]
        wanted = ndcg_score([gains], [said[of]]) if any(gains) else 0.0
        assert found[number] == pytest.approx(wanted)
        assert requests.weights["ndcg"][number] == float(any(gains))


def test_requests_are_compared_and_not_their_items() -> None:
    class Always:
        labels: tuple[str, ...] = ()
        features: tuple[str, ...] = ()

        def __init__(self, p: float) -> None:
            self.p = p

        def predict(self, examples: Sequence[Example]) -> Floats:
            return np.full(len(examples), self.p)

    rows, _ = shown(30, 0, logged=True)
    pairs = measured("ranking", rows, Always(0.3), Always(0.9), examination=Examination.of(rows))
    assert len(pairs) == 30
    for metric in ("log_loss", "ndcg"):
        compared = pairs.compare(metric)
        assert compared.n == 30
        assert compared.gain is not None
        assert (compared.gain.value > 0) == (metric == "log_loss")
    looks = np.array([1 / (row.position or 1) for row in rows]).clip(0.1)
    clicks = np.array([row.label == "1" for row in rows])
    p = np.where(clicks, 0.3 * looks, 1 - 0.3 * looks)
    assert pairs.compare("log_loss").candidate["log_loss"] == pytest.approx(-np.log(p).mean())


@pytest.mark.parametrize("label", ["0", "1"])
def test_clicks_alone_teach_nothing(label: str, tmp_path: Path) -> None:
    rows = [TrainingExample(Example(), label)] * 5
    with pytest.raises(NothingToLearnError, match="items with a click and items without one"):
        ranking.fit(
            TrainingSet("m", "ranking", rows), None, ranking.Config(), lambda *_: None, tmp_path
        )


def world(rng: np.random.Generator, requests: int, own: float) -> Measured:
    """Two versions that know the logit of each click but for errors, which go by the request."""
    truth = rng.normal(-1, 1.5, (requests, ITEMS))
    both = truth + rng.normal(0, 0.7, (requests, ITEMS))
    errors = [
        rng.normal(0, error, (requests, 1)) + rng.normal(0, 0.3, (requests, ITEMS))
        for error in (own, 1.0)
    ]
    clicked = rng.random((requests, ITEMS)) < 1 / (1 + np.exp(-truth))
    rows = [
        LabeledExample(f"r{one}", NOW, NOW, Example(), str(int(click)), position=position)
        for one, clicks in enumerate(clicked.tolist())
        for position, click in enumerate(clicks, 1)
    ]
    judge = Requests(rows, UNKNOWN)
    ours, theirs = (judge.parts(1 / (1 + np.exp(-(both + error).ravel()))) for error in errors)
    return Measured(ours, theirs, weights=judge.weights, unit="request")


def test_a_ranking_that_is_as_good_passes_once_in_20_times() -> None:
    rng, runs, most = np.random.default_rng(11), 300, 0.05
    pairs = [world(rng, 50, 1.0) for _ in range(runs)]
    chance = 3 * (most * (1 - most) / runs) ** 0.5
    for metric in METRICS["ranking"]:
        policy = GatePolicy(metric=metric, min_improvement=0.0)
        passed = [decide(one, policy=policy).passed for one in pairs]
        assert 0 < np.mean(passed) <= most + chance


def of_items(requests: int, seed: int, items: range) -> tuple[list[LabeledExample], Floats]:
    """Items that are wanted for what they are and for a number; their wants."""
    rng = np.random.default_rng(seed)
    worth = np.random.default_rng(0).normal(size=1_000)
    rows, wants = [], []
    for number in range(requests):
        for position, item in enumerate(rng.choice(items, ITEMS, replace=False).tolist(), 1):
            fit = float(rng.normal())
            wanted = 1 / (1 + np.exp(1 - fit - 1.5 * worth[item]))
            example = Example("", None, {"fit": fit}, item_id=f"i{item}")
            rows.append(
                LabeledExample(
                    f"r{number}", NOW + timedelta(minutes=number), NOW, example,
                    str(int(rng.random() < wanted)), item_id=f"i{item}", position=position,
                )
            )  # fmt: skip
            wants.append(wanted)
    return rows, np.array(wants)


def test_items_are_known_by_their_ids_and_new_ones_by_the_rest(tmp_path: Path) -> None:
    rows, _ = of_items(300, 1, range(60))
    found = {}
    for name, ids in (("ids", None), ("none", ())):
        claim = Claim("m/1", "m", "w", "run", 1, NOW, NOW, NOW)
        brief = Brief(
            claim, Dataset("d", {}, "", rows), None, None, GatePolicy(), tmp_path, Marks(),
            "ranking", Declared(ids=ids),
        )  # fmt: skip
        folder = tmp_path / f".draft-{name}"
        folder.mkdir()
        outcome = run.train(brief, folder, lambda _: None)
        assert outcome.candidate is not None
        assert outcome.candidate.manifest.ids == (("item_id",) if ids is None else ())
        _, version = load(publish_draft(folder, "m", "v1", outcome.candidate.manifest, ""))
        for kind, items in (("known", range(60)), ("new", range(500, 900))):
            asked, wants = of_items(150, 2, items)
            said = version.predict([row.example for row in asked])
            found[name, kind] = ndcg_score(wants.reshape(-1, ITEMS), said.reshape(-1, ITEMS))
        strange = [Example("", None, {"fit": 0.5}, item_id=f"new {one}") for one in range(2)]
        first, second = version.predict(strange)
        assert first == second
    assert found["ids", "known"] > found["none", "known"] + 0.03
    assert found["ids", "new"] > found["none", "new"] - 0.02


@pytest.mark.parametrize("metric", ["log_loss", "ndcg"])
def test_a_run_ranks_judges_and_reports(metric: str, tmp_path: Path) -> None:
    rows, _ = shown(200, 3, logged=True)
    rows[5] = replace(rows[5], label="much")  # no number: it is left out
    claim = Claim("m/1", "m", "w", "run", 1, NOW, NOW, NOW)
    brief = Brief(
        claim, Dataset("d", {}, "", rows), None, None, GatePolicy(metric=metric), tmp_path,
        Marks(), "ranking",
    )  # fmt: skip
    folder = tmp_path / "draft"
    folder.mkdir()
    outcome = run.train(brief, folder, lambda _: None)
    assert outcome.metrics["gate"]["improvement"] > 0, outcome.reason
    assert outcome.reason.startswith(f"{metric} on the 40 newest requests")
    assert outcome.metrics["gate"]["against"] == "the prior"
    assert outcome.metrics["finetune"]["examination"] == "logged"
    assert outcome.candidate is not None
    assert outcome.candidate.manifest.recipe == "ranking"
    assert outcome.candidate.holdout["n"] == 40
    assert outcome.candidate.holdout["ndcg"] > outcome.candidate.rival["ndcg"]
