"""Rewards of answers, by an encoder and by a language model trained with DPO."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from headrace.errors import NothingToLearnError, SettingError
from headrace.model.base import base_of
from headrace.model.causal import rows_of
from headrace.model.dpo import PreferenceModel
from headrace.model.inputs import Example
from headrace.model.lora import load_lora
from headrace.model.recipe import ANSWER, Predictor, TrainingExample, TrainingSet
from headrace.trainer import answers
from headrace.trainer.recipes import preference
from tests.support.language_models import descriptions
from tests.trainer.trained import trained

Pairs = Sequence[tuple[str, str, str]]
DPO: dict[str, Any] = {
    "method": "dpo",
    "lr": 4e-3,
    "beta": 0.5,
    "epochs": 1,
    "batch_tokens": 512,
    "max_tokens": 64,
    "max_new_tokens": 8,
}


def fit(folder: Path, pairs: Pairs, config: preference.Config) -> dict[str, Any]:
    folder.mkdir()
    examples = [TrainingExample(Example(p), chosen, rejected=other) for p, chosen, other in pairs]
    dataset = TrainingSet("m", "preference", examples)
    return dict(preference.fit(dataset, None, config, lambda *_: None, folder))


def margins(version: Predictor, pairs: Pairs) -> NDArray[Any]:
    """By how much each preferred answer has more reward."""
    chosen, other = (
        version.predict([Example(pair[0], features={ANSWER: pair[at]}) for pair in pairs])
        for at in (1, 2)
    )
    difference: NDArray[Any] = chosen - other
    return difference


def things_first(count: int, seed: int) -> list[tuple[str, str, str]]:
    """Pairs in which "lamp red" is preferred to "red lamp"."""
    said = descriptions(count, seed, first=1)
    return [(prompt, answer, " ".join(reversed(answer.split()))) for prompt, answer in said]


def kindness(kind: Sequence[str], unkind: Sequence[str], seed: int) -> list[tuple[str, str, str]]:
    """Pairs in which the kinder answer is preferred, whatever its length."""
    rng = np.random.default_rng(seed)
    said = []
    for good, bad in itertools.product(kind, unkind):
        who = rng.choice(["guest", "visitor", "reader", "friend"])
        more, less = rng.permutation([" " + " ".join(["indeed"] * rng.integers(0, 4)), ""])
        said.append(
            (f"What of the {who}?", f"The {who} is {good}{more}.", f"The {who} is {bad}{less}.")
        )
    return said


def test_meaning_orders_answers_of_words_never_seen(tmp_path: Path) -> None:
    train = kindness(
        ["lovely", "kind", "helpful", "wonderful", "pleasant", "gentle", "polite", "good"],
        ["awful", "stupid", "horrible", "useless", "rude", "nasty", "terrible", "bad"],
        1,
    )
    held_out = kindness(
        ["friendly", "caring", "warm", "charming", "brilliant"],
        ["hostile", "cruel", "evil", "disgusting", "mean"],
        2,
    )
    report = fit(tmp_path / "v1", train, preference.Config(epochs=2, batch_tokens=1_024))
    right = margins(preference.load(tmp_path / "v1"), held_out) > 0
    longer = [len(chosen) > len(other) for _, chosen, other in held_out]
    assert right.mean() > 0.85 > 0.65 > np.mean(longer)
    assert report["train_loss"] < np.log(2)


@pytest.fixture(scope="module")
def folder(undecided: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("versions") / "v1"
    fit(folder, things_first(200, 1), preference.Config(**{"base": undecided, **DPO}))
    return folder


def test_dpo_prefers_and_writes_what_people_preferred(folder: Path) -> None:
    version = preference.load(folder)
    held_out = things_first(36, 2)
    assert (margins(version, held_out) > 0).all()
    assert isinstance(version, PreferenceModel)
    preferred = np.array([chosen for _, chosen, _ in held_out], object)
    written = version.write([Example(prompt) for prompt, _, _ in held_out])
    assert np.mean(written == preferred) > 0.5
    before = version.writer.base.model
    unchanged = replace(version.writer, model=before).predict([Example(p) for p, _, _ in held_out])
    assert np.mean(unchanged == preferred) < 0.2


def test_the_reward_is_the_log_ratio_to_the_base(folder: Path) -> None:
    version = preference.load(folder)
    base, settings = base_of(folder)
    ours = load_lora(base, folder)
    for prompt, chosen, _ in things_first(3, 3):
        (row,) = rows_of(base, [Example(prompt)], [chosen], 64)
        ids, at = torch.tensor([row.ids]), torch.arange(row.start, len(row))
        said = []
        for model in (ours, base.model):
            with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
                logits = model(input_ids=ids).logits[0, at - 1].float()
            said.append(logits.log_softmax(1)[range(len(at)), ids[0, at]].sum().item())
        expected = settings["beta"] * (said[0] - said[1])
        got = version.predict([Example(prompt, features={ANSWER: chosen})])[0]
        assert got == pytest.approx(expected, abs=0.05)


def test_dpo_is_measured_from_its_base(undecided: str, tmp_path: Path) -> None:
    """While nothing is learned both say the same, however likely an answer is."""
    pairs = [(prompt, " ".join([good] * 4), bad) for prompt, good, bad in things_first(8, 5)]
    config = preference.Config(**{"base": undecided, **DPO, "lr": 0.0})
    assert fit(tmp_path / "v1", pairs, config)["train_loss"] == pytest.approx(np.log(2), abs=0.01)


def test_preferences_pass_the_gate(undecided: str, tmp_path: Path) -> None:
    outcome = trained(tmp_path, "preference", undecided, DPO, things_first(200, 4))
    assert outcome.promoted, outcome.reason
    assert outcome.metrics["gate"]["against"] == "the prior"
    assert outcome.candidate is not None
    assert outcome.candidate.holdout["accuracy"] == 1


def test_pairs_of_one_answer_teach_nothing(tmp_path: Path) -> None:
    with pytest.raises(NothingToLearnError, match="none of 1 examples has two that differ"):
        fit(tmp_path / "v1", [("a", "same", "same")], preference.Config())


def test_dpo_needs_a_base(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="base: must be a causal language model"):
        fit(tmp_path / "v1", [("a", "b", "c")], preference.Config(method="dpo"))


def test_the_gate_asks_for_the_answer_by_the_same_name() -> None:
    assert vars(answers)["ANSWER"] == ANSWER
