"""What holds a weight in place, against a plain computation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from headrace.model.config import FinetuneConfig
from headrace.model.ewc import fisher, penalty, summed
from headrace.model.finetune import finetune
from headrace.model.network import wide_logits
from headrace.model.weights import IMPORTANCE, Artifact, read_weights
from headrace.model.wide import Held, fit_wide, wide_fisher
from tests.trainer.clicks import clicks


def test_the_fisher_of_a_logistic_regression_is_its_hessian() -> None:
    torch.manual_seed(0)
    x = torch.randn(40, 3)
    weights = torch.randn(3, requires_grad=True)

    def nll(w: torch.Tensor) -> torch.Tensor:
        labels = torch.sigmoid(x @ weights.detach())  # on average
        return F.binary_cross_entropy_with_logits(x @ w, labels, reduction="sum")

    hessian = torch.autograd.functional.hessian(nll, weights.detach())  # type: ignore[no-untyped-call]
    drawn = torch.bernoulli(torch.sigmoid(x @ weights.detach()).repeat(200, 1))
    losses = (
        F.binary_cross_entropy_with_logits(one @ weights, label)
        for labels in drawn
        for one, label in zip(x, labels, strict=True)
    )
    found = fisher(losses, {"w": weights}, len(x))["w"]
    torch.testing.assert_close(found, hessian.diagonal(), rtol=0.05, atol=0)


def test_the_fisher_of_the_wide_part_is_its_hessian() -> None:
    torch.manual_seed(0)
    buckets, classes = 6, 3
    hashes = torch.tensor([[5, 2, -1], [3, 2, 0], [4, -1, -1]])
    share = (hashes >= 0).float() * torch.rand(3, 3)
    each = torch.tensor([0.5, 2.0, 1.0])
    weights = torch.randn(buckets + 1, classes)
    labels = wide_logits(weights, hashes, share).softmax(1)

    def nll(w: torch.Tensor) -> torch.Tensor:
        return (
            F.cross_entropy(wide_logits(w, hashes, share), labels, reduction="none") * each
        ).sum()

    hessian = torch.autograd.functional.hessian(nll, weights)  # type: ignore[no-untyped-call]
    size = weights.numel()
    expected = hessian.reshape(size, size).diagonal().reshape(weights.shape)
    torch.testing.assert_close(wide_fisher(weights, hashes, share, each), expected)


def test_held_weights_move_as_far_as_the_data_outweigh_them() -> None:
    """One bucket in one class of two: the optimum of both terms is where gradients are equal."""
    hashes, share = torch.zeros(50, 1, dtype=torch.long), torch.ones(50, 1)
    target = torch.tensor([0, 1] * 10 + [1] * 30)
    data = (hashes, share, target, torch.ones(50), 2, 1e6, 4)
    anchor = torch.zeros(5, 2)
    anchor[3] = torch.tensor([0.7, -0.7])  # of a value that no longer occurs
    free = fit_wide(*data)
    held = {
        firm: fit_wide(*data, Held(anchor, torch.full((5, 2), firm))) for firm in (1e-6, 10.0, 1e6)
    }
    logits = [wide_logits(one, hashes[:1], share[:1])[0] for one in (free, *held.values())]
    moved = [float(one[1] - one[0]) for one in logits]
    assert moved[0] == pytest.approx(moved[1], abs=1e-3) and moved[0] > moved[2] > moved[3]
    assert moved[3] == pytest.approx(0, abs=1e-3)
    torch.testing.assert_close(held[1e6][3], anchor[3], rtol=1e-3, atol=0)


def test_a_penalty_is_half_the_sum_of_squares_by_importance_which_fades() -> None:
    now, anchor = {"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([0.0, 4.0])}
    assert penalty(now, anchor, {"w": torch.tensor([3.0, 0.5])}).item() == (3 + 0.5 * 4) / 2
    both = summed(
        {"w": torch.tensor([1.0]), "new": torch.tensor([2.0])}, {"w": torch.tensor([1.0])}
    )
    assert both["w"].item() == pytest.approx(1.9) and both["new"].item() == 2


def test_a_child_stays_near_a_parent_that_was_trained_with_ewc(tmp_path: Path) -> None:
    config = FinetuneConfig(tabular_steps=60, ewc=1.0)
    first = finetune(clicks(200, 0), config=config)
    first.save(tmp_path / "held")
    finetune(clicks(200, 0), config=FinetuneConfig(tabular_steps=60)).save(tmp_path / "free")
    assert not (tmp_path / "free" / IMPORTANCE).exists()
    assert read_weights(tmp_path / "held", IMPORTANCE).keys() == {
        f"head.{name}" for name in first.head
    }

    def child(parent: str, ewc: float) -> Artifact:
        settings = FinetuneConfig(tabular_steps=60, ewc=ewc)
        return finetune(clicks(200, 1), tmp_path / parent, settings)

    def moved(artifact: Artifact) -> dict[bool, float]:
        """How much it costs, of the word weights and of all others."""
        costs = {False: 0.0, True: 0.0}
        for name, value in artifact.head.items():
            cost = first.fisher[f"head.{name}"] * (value - first.head[name]) ** 2
            costs[name == "wide"] += float(cost.sum())
        return costs

    free, firm = child("held", 0.0), child("held", 1e5)
    assert child("free", 1.0).report["held_in_place"] is False
    assert firm.report["held_in_place"] is True and free.report["held_in_place"] is False
    for wide, cost in moved(firm).items():
        assert cost < 0.2 * moved(free)[wide]
    assert torch.all(firm.fisher["head.wide"] >= 0.9 * first.fisher["head.wide"])
