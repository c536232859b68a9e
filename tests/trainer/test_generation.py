"""LoRA on a language model: what it learns, and that batches change nothing of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from headrace.errors import ModelError
from headrace.model import causal
from headrace.model.base import Base, open_base
from headrace.model.causal import Row, prompt_ids, row_of, token_losses
from headrace.model.inputs import Example
from headrace.model.lora import adapted, batches, seeded
from headrace.model.recipe import TrainingExample, TrainingSet
from headrace.trainer.recipes import generation
from tests.support.language_models import descriptions, make_base
from tests.trainer.trained import trained

SETTINGS = {"lr": 5e-3, "epochs": 2, "batch_tokens": 256, "max_tokens": 64, "max_new_tokens": 8}
CORRECTIONS = descriptions(240, 1, first=1)
HELD_OUT = descriptions(36, 2, first=1)


def config(base: str, **others: Any) -> generation.Config:
    return generation.Config(**{"base": base, **SETTINGS, **others})


def fit(
    folder: Path,
    settings: generation.Config,
    parent: Path | None = None,
    seed: int = 0,
    progress: Callable[..., None] = lambda *_: None,
) -> dict[str, Any]:
    folder.mkdir()
    examples = [TrainingExample(Example(prompt), answer) for prompt, answer in CORRECTIONS]
    dataset = TrainingSet("m", "generation", examples, seed=seed)
    return dict(generation.fit(dataset, parent, settings, progress, folder))


def float32(base: str) -> Base:
    return open_base(base, "causal", torch.float32)


@pytest.fixture(scope="module")
def version(undecided: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("versions") / "v1"
    fit(folder, config(undecided))
    return folder


def test_corrections_are_learned(undecided: str, version: Path) -> None:
    ours, base = generation.load(version), generation.untrained(config(undecided))
    prompts = [Example(prompt) for prompt, _ in HELD_OUT]
    answers = [answer for _, answer in HELD_OUT]
    before, after = (one.log_losses(prompts, answers).mean() for one in (base, ours))
    assert after < 0.5 * before
    right = [np.mean(one.predict(prompts) == np.array(answers, object)) for one in (base, ours)]
    assert right[0] < 0.7
    assert right[1] > 0.9


def test_only_matrices_and_what_they_belong_to_are_written(undecided: str, version: Path) -> None:
    names = ["adapter_config.json", "adapter_model.safetensors", "base.json"]
    assert sorted(path.name for path in version.iterdir()) == names
    assert undecided in (version / "base.json").read_text()


def test_a_prompt_gets_one_answer_in_any_batch(version: Path) -> None:
    writer = generation.load(version)
    prompts = [Example("the lamp is red"), Example("now we see that the big cup is blue")]
    together = writer.predict(prompts)
    assert list(together) == [writer.predict([one])[0] for one in prompts]


LENGTHS = [(3, 2), (9, 4), (4, 1), (1, 7)]  # of prompts and answers


@pytest.mark.parametrize(("logits", "again"), [(1 << 24, False), (2_000, True)])
def test_a_batch_has_the_loss_and_the_gradient_of_its_rows(
    undecided: str, monkeypatch: pytest.MonkeyPatch, logits: int, again: bool
) -> None:
    monkeypatch.setitem(causal.LOGITS, "cpu", logits)
    base = float32(undecided)
    device = torch.device("cpu")
    torch.manual_seed(0)
    settings = config(undecided, gradient_checkpointing=again)
    model = adapted(base, settings, None).to(device)
    matrices = [one for one in model.parameters() if one.requires_grad]
    for one in matrices:
        torch.nn.init.normal_(one, std=0.05)
    inner = model.get_base_model()
    rows = [
        Row(torch.randint(0, 300, (prompt + answer,)).tolist(), prompt)
        for prompt, answer in LENGTHS
    ]

    losses, owner = token_losses(inner, rows, device)
    assert owner.tolist() == [at for at, (_, n) in enumerate(LENGTHS) for _ in range(n)]
    ours = torch.autograd.grad((losses * (owner + 1)).sum(), matrices)
    expected = [
        F.cross_entropy(
            inner(input_ids=torch.tensor([row.ids])).logits[0, row.start - 1 : -1],
            torch.tensor(row.ids[row.start :]),
            reduction="none",
        )
        for row in rows
    ]
    torch.testing.assert_close(losses, torch.cat(expected), rtol=1e-5, atol=1e-5)
    total = sum(((at + 1) * one.sum() for at, one in enumerate(expected)), torch.zeros(()))
    for got, wanted in zip(ours, torch.autograd.grad(total, matrices), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


@given(
    st.lists(st.integers(1, 90), min_size=1, max_size=60),
    st.integers(16, 400),
    st.one_of(st.none(), st.integers(0, 9)),
)
def test_batches_hold_each_row_once_and_no_more_tokens_than_asked(
    lengths: list[int], budget: int, seed: int | None
) -> None:
    rng = None if seed is None else np.random.default_rng(seed)
    made = batches(lengths, budget, rng)
    assert sorted(row for batch in made for row in batch) == list(range(len(lengths)))
    for batch in made:
        assert len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= budget


@pytest.mark.parametrize("limit", [16, 30, 64])
def test_what_is_too_long_keeps_the_end_of_the_prompt(undecided: str, limit: int) -> None:
    base = float32(undecided)
    prompt, answer = "the lamp is red " * 6, "lamp red " * 6
    whole, cut = row_of(base, prompt, answer, 1_000), row_of(base, prompt, answer, limit)
    assert len(cut) == min(limit, len(whole))
    said = len(cut) - cut.start
    assert said >= limit // 2 or said == len(whole) - whole.start
    assert cut.ids[cut.start :] == whole.ids[whole.start :][:said]
    assert cut.ids[: cut.start] == whole.ids[: whole.start][-cut.start :]


def test_a_chat_template_frames_the_prompt(tmp_path: Path) -> None:
    template = "[{{ messages[0].content }}]{% if add_generation_prompt %}:{% endif %}"
    base = float32(make_base(tmp_path, [("a", "b")], template=template))
    assert base.tokenizer.decode(prompt_ids(base, "the lamp")) == "[the lamp]:"


def test_a_seed_gives_one_version(undecided: str, tmp_path: Path) -> None:
    settings = config(undecided, epochs=1, deterministic=True)
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        torch.seed()
        fit(tmp_path / name, settings, seed=seed)
    a, b, c = ((tmp_path / name / "adapter_model.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c


@pytest.mark.parametrize("deterministic", [True, False])
def test_operations_that_vary_are_refused_where_asked_and_only_meanwhile(
    deterministic: bool,
) -> None:
    with seeded(0, torch.device("cpu"), deterministic):
        assert torch.are_deterministic_algorithms_enabled() == deterministic
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_parent_of_the_same_base_and_rank_is_continued(
    undecided: str, version: Path, tmp_path: Path
) -> None:
    still = fit(tmp_path / "v2", config(undecided, lr=0, epochs=1), version)
    assert still["warm_started"]
    assert still["train_loss"] < 0.2
    other = fit(tmp_path / "v3", config(undecided, lr=0, epochs=1, rank=4), version)
    assert not other["warm_started"]
    assert other["train_loss"] > 0.4


def test_another_base_in_the_same_place_is_refused(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", [("a", "b")])
    fit(tmp_path / "v1", config(base, epochs=1))
    make_base(tmp_path / "base", [("a", "b")], seed=1)
    open_base.cache_clear()
    with pytest.raises(ModelError, match=r"v1: base .* must have the fingerprint"):
        generation.load(tmp_path / "v1")


def test_what_is_no_base_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="base: must be a folder, or a name of the Hugging Face"):
        generation.untrained(config(str(tmp_path)))


def test_a_fit_that_is_interrupted_has_written_nothing(undecided: str, tmp_path: Path) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "v1", config(undecided, epochs=1), progress=stop)
    assert list((tmp_path / "v1").iterdir()) == []


def test_a_better_writer_passes_the_gate(undecided: str, tmp_path: Path) -> None:
    outcome = trained(tmp_path, "generation", undecided, SETTINGS, CORRECTIONS)
    assert outcome.promoted, outcome.reason
    assert outcome.metrics["gate"]["against"] == "the base model"
