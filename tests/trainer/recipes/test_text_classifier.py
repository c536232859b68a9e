"""Texts: each part of a version, what it gains, and that what is saved is what answers."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from headrace.errors import ModelError, NothingToLearnError
from headrace.model.artifact import VERSION, Manifest
from headrace.model.edge import answers
from headrace.model.edge.bundle import write_bundle
from headrace.model.inputs import Example
from headrace.model.recipe import TrainingExample, TrainingSet
from headrace.model.text import version
from headrace.model.text.encoder import load_encoder, pool, shared_encoder
from headrace.model.text.lora import Lora
from headrace.model.text.rows import folds
from headrace.trainer.recipes import text_classifier
from headrace.trainer.recipes.text_classifier import Config

# Learned from the first four words of each list, asked about the last four.
ANIMALS = ["dog", "cat", "horse", "cow", "sheep", "goat", "rabbit", "pig"]
PLACES = ["house", "city", "school", "church", "village", "hotel", "office", "castle"]
SAID = ["we saw the {}", "a small {} here", "the {} was old", "my {} at last", "that {} again"]
FEW_STEPS = Config(adapter="always", epochs=1, tokens=16, int8_tolerance=0)

pytestmark = pytest.mark.usefixtures("one_thread")


def nothing(step: int, steps: int, loss: float | None = None) -> None:
    pass


def topics(words: slice, repeats: int = 3) -> list[TrainingExample]:
    """Sentences about animals and places."""
    return [
        TrainingExample(Example(f"{said.format(word)} {number}"), label)
        for number, said in itertools.product(range(repeats), SAID)
        for label, listed in (("animal", ANIMALS), ("place", PLACES))
        for word in listed[words]
    ]


def trained(
    examples: list[TrainingExample],
    folder: Path,
    config: Config = FEW_STEPS,
    parent: Path | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    folder.mkdir()
    dataset = TrainingSet("m", "classification", examples, seed=seed)
    return dict(text_classifier.fit(dataset, parent, config, nothing, folder))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A version with every part: the adapter, and features."""
    examples = [
        TrainingExample(
            Example(one.example.text, "eu", {"length": len(one.example.text), "vip": n % 3 == 0}),
            one.label,
        )
        for n, one in enumerate(topics(slice(4)))
    ]
    folder = tmp_path_factory.mktemp("text") / "v1"
    return folder, trained(examples, folder)


def losses(folder: Path, examples: list[TrainingExample]) -> float:
    loaded = text_classifier.load(folder)
    p = loaded.predict([one.example for one in examples])
    columns = [loaded.labels.index(one.label) for one in examples]
    return float(-np.log(p[np.arange(len(p)), columns]).mean())


def test_the_encoder_knows_words_that_were_not_learned(tmp_path: Path) -> None:
    trained(topics(slice(4)), tmp_path / "whole")
    asked = topics(slice(4, None), 1)
    loaded = version.load(tmp_path / "whole")
    examples = [one.example for one in asked]
    truth = np.array([loaded.labels.index(one.label) for one in asked])
    whole = (loaded.predict(examples).argmax(1) == truth).mean()
    words = loaded.word_weights.logs(loaded.words.vectors(examples))
    assert (words.argmax(1) == truth).mean() < 0.6
    assert whole > 0.8


def test_every_part_is_there_and_reported(made: tuple[Path, dict[str, Any]]) -> None:
    folder, report = made
    assert sorted(report["parts"]) == ["adapter", "features", "words"]
    assert all("nats" in said for said in report["parts"].values())
    files = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert files == {
        "adapter_config.json", "adapter_model.safetensors", "config.json",
        "correction.safetensors", "features/config.json", "features/head.safetensors",
        "stack.safetensors", "words.json",
    }  # fmt: skip
    loaded = text_classifier.load(folder)
    assert loaded.labels == ("animal", "place")
    assert loaded.features == ("length",)


def test_the_adapter_learns_and_is_what_peft_makes_of_it(made: tuple[Path, Any]) -> None:
    from peft import PeftModel

    folder, _ = made
    lora = load_file(folder / "adapter_model.safetensors")
    # These matrices start at zero, and with them all that the adapter adds.
    moved = [np.abs(value).max() for name, value in lora.items() if "lora_B" in name]
    assert len(moved) == 6 * 6 and min(moved) > 1e-4
    loaded = version.load(folder)
    texts = ["we saw the goat", "an old hotel in the city, and more words than that"]
    tokens = loaded.encoder.tokenize(texts, 64)
    base = shared_encoder("")
    peft: Any = PeftModel.from_pretrained(load_encoder("").model, folder)
    with torch.inference_mode():
        wanted = pool(peft.eval(), tokens).numpy()
    np.testing.assert_allclose(loaded.encoder.states(tokens), wanted, atol=1e-4)
    assert not np.allclose(base.states(tokens), wanted, atol=1e-2)
    merged = base.merged(Lora.read(folder))
    np.testing.assert_allclose(merged.states(tokens), wanted, atol=1e-4)
    shared = base.model.embeddings.word_embeddings.weight
    assert merged.model.embeddings.word_embeddings.weight is shared


def test_what_is_loaded_twice_answers_the_same_in_any_company(made: tuple[Path, Any]) -> None:
    one, other = text_classifier.load(made[0]), text_classifier.load(made[0])
    odd = ["", "goat " * 5_000, "\x00 \U0001f512 ẞ", "the old school", "12", "日本語のテキスト"]
    examples = [Example(text, None, {"length": 7, "new": None}) for text in odd]
    together = one.predict(examples)
    assert np.array_equal(together, other.predict(examples))
    alone = [one.predict([example])[0] for example in examples]
    np.testing.assert_allclose(together, alone, atol=1e-4)
    np.testing.assert_allclose(together.sum(1), 1, atol=1e-5)
    assert one.predict([]).shape == (0, 2)


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    some = topics(slice(4), 1)
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        torch.seed()
        trained(some, tmp_path / name, seed=seed)
    files = ("stack.safetensors", "adapter_model.safetensors")
    a, b, c = ([(tmp_path / one / file).read_bytes() for file in files] for one in "abc")
    assert a == b
    assert a[1] != c[1]


def test_an_adapter_that_gains_nothing_is_left_out_until_there_is_more(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = [
        TrainingExample(Example(" ".join(rng.choice(ANIMALS + PLACES, 3))), label)
        for label in rng.choice(["no", "yes"], 200)
    ]
    auto = Config(epochs=1, tokens=16)
    report = trained(noise, tmp_path / "v1", auto)
    assert report["parts"]["adapter"].startswith("left out, ")
    assert "embedding" in report["parts"]
    assert not (tmp_path / "v1" / "adapter_model.safetensors").exists()
    again = trained(noise, tmp_path / "v2", auto, tmp_path / "v1")
    assert again["parts"]["adapter"] == "not trained: it gained nothing with 200 labels"
    more = trained([*noise, *noise[:100]], tmp_path / "v3", auto, tmp_path / "v2")
    assert not more["parts"]["adapter"].startswith("not trained")


def test_no_adapter_is_trained_where_none_is_wanted(tmp_path: Path) -> None:
    report = trained(topics(slice(4), 1), tmp_path / "v1", Config(adapter="never"))
    assert report["parts"]["adapter"] == "not trained, as it is declared"
    assert not list((tmp_path / "v1").glob("adapter*"))
    assert losses(tmp_path / "v1", topics(slice(4), 1)) < 0.3


def test_a_child_goes_on_from_its_parents_adapter(made: tuple[Path, Any], tmp_path: Path) -> None:
    still = Config(adapter="always", epochs=1, tokens=16, lora_lr=0.0, int8_tolerance=0)
    report = trained(topics(slice(4), 1), tmp_path / "v2", still, made[0])
    assert report["warm_started"] is True
    parents, ours = (
        load_file(one / "adapter_model.safetensors") for one in (made[0], tmp_path / "v2")
    )
    assert all(np.array_equal(parents[name], ours[name]) for name in parents)
    other = [*topics(slice(4), 1), TrainingExample(Example("a new one"), "new")]
    assert trained(other, tmp_path / "v3", still, made[0])["warm_started"] is False


def test_online_steps_move_the_answer_and_nothing_else(
    made: tuple[Path, Any], tmp_path: Path
) -> None:
    parent = made[0]
    goat = Example("we saw the goat")
    folder = tmp_path / "step"
    folder.mkdir()
    for path in parent.rglob("*"):
        target = folder / path.relative_to(parent)
        target.mkdir() if path.is_dir() else target.hardlink_to(path)
    before = text_classifier.load(parent).predict([goat])[0, 1]
    said = text_classifier.update(
        parent,
        [TrainingExample(goat, "place"), TrainingExample(goat, "unheard of")],
        folder,
        rate=0.01,
        steps=10,
    )
    assert (said["examples"], said["left_out"]) == (1, 1)
    assert text_classifier.load(folder).predict([goat])[0, 1] > before + 0.1
    assert text_classifier.load(parent).predict([goat])[0, 1] == before


def test_what_judged_a_version_is_learned_and_what_was_chosen_stays(tmp_path: Path) -> None:
    folder, newer = tmp_path / "v1", topics(slice(4, None), 1)
    known = topics(slice(4), 1)
    trained(known, folder)
    chosen = ("config.json", "adapter_model.safetensors", "correction.safetensors")
    before = [(folder / name).read_bytes() for name in chosen]
    lost = losses(folder, newer)
    shouted = [TrainingExample(one.example, one.label.upper()) for one in newer]
    whole = TrainingSet("m", "classification", [*known, *shouted])
    assert text_classifier.complete(whole, FEW_STEPS, folder) == {"completed": len(whole.examples)}
    assert losses(folder, newer) < lost / 2
    assert before == [(folder / name).read_bytes() for name in chosen]
    remembered = load_file(folder / "stack.safetensors")
    text_classifier.complete(whole, FEW_STEPS, folder)  # reads every text again
    again = load_file(folder / "stack.safetensors")
    assert all(np.allclose(again[name], remembered[name], atol=0.02) for name in again)


def test_weights_decide_between_contradicting_labels(tmp_path: Path) -> None:
    same = Example("the same text")
    examples = [TrainingExample(same, "yes", 9.0), TrainingExample(same, "no", 1.0)] * 60
    trained(examples, tmp_path / "v1", Config(adapter="never"))
    loaded = text_classifier.load(tmp_path / "v1")
    assert loaded.predict([same])[0, loaded.labels.index("yes")] == pytest.approx(0.9, abs=0.05)


def test_a_child_holds_out_what_its_parent_held_out() -> None:
    examples = [Example(f"text {n}") for n in range(400)]
    target = np.arange(400) % 2
    first = {examples[row] and row for row in folds(examples, target, np.arange(200))[0]}
    second = set(folds(examples, target, np.arange(400))[0].tolist())
    assert len(first) == 40 and len(second) == 80
    assert len([row for row in second if row < 200 and row not in first]) <= 8


@given(st.lists(st.integers(0, 2), min_size=1, max_size=60), st.integers(0, 9))
def test_every_row_is_in_one_fold_and_every_class_spread_over_them(
    labels: list[int], skipped: int
) -> None:
    target, rows = np.array(labels), np.arange(len(labels))[skipped:]
    if not len(rows):
        return
    parts = folds([Example(f"text {n}") for n in range(len(labels))], target, rows)
    assert sorted(np.concatenate(parts).tolist()) == rows.tolist()
    for label in set(labels):
        counts = [int((target[part] == label).sum()) for part in parts]
        assert max(counts) - min(counts) <= 1
        assert counts[0] == min(counts)


def test_what_was_learned_by_heart_gets_no_weight(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = [
        TrainingExample(Example(f"{rng.integers(10**6)} {rng.choice(ANIMALS)}"), label)
        for label in rng.choice(["no", "yes"], 200)
    ]
    trained(noise, tmp_path / "v1", Config(adapter="never"))
    p = text_classifier.load(tmp_path / "v1").predict([one.example for one in noise])
    assert np.abs(p - 0.5).mean() < 0.2


def test_a_folder_of_before_says_why_it_is_not_loaded(tmp_path: Path) -> None:
    old = {"format": 1, "labels": ["no", "yes"], "schema": {"has_text": True}}
    (tmp_path / "config.json").write_text(json.dumps(old))
    with pytest.raises(ModelError, match="format must be 2 or 3, got 1"):
        text_classifier.load(tmp_path)
    with pytest.raises(ModelError, match="no readable artifact"):
        text_classifier.load(tmp_path / "absent")
    with pytest.raises(NothingToLearnError, match="two labels or more"):
        trained([TrainingExample(Example("one"), "yes")] * 5, tmp_path / "v1")


def test_a_version_of_before_letters_answers_as_it_did(tmp_path: Path) -> None:
    folder = tmp_path / "v1"
    trained(topics(slice(4), 1), folder, Config(adapter="never"))
    vocabulary = json.loads((folder / "words.json").read_text())
    arrays, terms = load_file(folder / "stack.safetensors"), len(vocabulary["terms"])
    assert vocabulary["letters"]
    arrays["words.weight"][:, terms:] = 0
    save_file(arrays, folder / "stack.safetensors")
    asked = [one.example for one in topics(slice(None), 1)]
    wanted = text_classifier.load(folder).predict(asked)

    config = json.loads((folder / "config.json").read_text()) | {"format": 2}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "words.json").write_text(json.dumps(vocabulary["terms"]))
    arrays["words.weight"] = np.ascontiguousarray(arrays["words.weight"][:, :terms])
    save_file(arrays | {"words.idf": arrays["words.idf"][:terms]}, folder / "stack.safetensors")
    np.testing.assert_allclose(text_classifier.load(folder).predict(asked), wanted, atol=1e-6)

    manifest = Manifest(recipe="text_classifier", task="classification")
    (folder / VERSION).write_bytes(msgspec.json.encode(manifest))
    write_bundle(folder, "m", "v1", tmp_path / "bundle")
    model = answers.Model(tmp_path / "bundle")
    got = [model.probabilities(one.text, None, {}) for one in asked]
    np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_a_base_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="base: must be a folder or hub id"):
        trained(topics(slice(4), 1), tmp_path / "v1", Config(base=str(tmp_path)))
