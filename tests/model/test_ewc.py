"""What holds a weight in place, against a plain computation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from headrace.model.config import FinetuneConfig
from headrace.model.ewc import Anchor, fisher, summed
from headrace.model.finetune import finetune
from headrace.model.weights import IMPORTANCE, Artifact, read_weights
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


def test_a_penalty_is_half_the_sum_of_squares_by_importance_which_fades() -> None:
    weights = torch.tensor([0.0, 4.0])
    anchor = Anchor({"w": weights}, {"w": torch.tensor([3.0, 0.5])}, strength=10.0)
    weights += torch.tensor([1.0, -2.0])
    assert anchor.penalty().item() == 10 * (3 + 0.5 * 4) / 2
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
    deep = {name for name in first.head if name != "wide" and not name.startswith("seen.")}
    assert read_weights(tmp_path / "held", IMPORTANCE).keys() == deep

    def child(parent: str, ewc: float) -> Artifact:
        settings = FinetuneConfig(tabular_steps=60, ewc=ewc)
        return finetune(clicks(200, 1), tmp_path / parent, settings)

    def moved(artifact: Artifact) -> float:
        """How much it costs."""
        return sum(
            float((importance * (artifact.head[name] - first.head[name]) ** 2).sum())
            for name, importance in first.fisher.items()
        )

    free, firm = child("held", 0.0), child("held", 1e5)
    assert child("free", 1.0).report["held_in_place"] is False
    assert firm.report["held_in_place"] is True and free.report["held_in_place"] is False
    assert moved(firm) < 0.2 * moved(free)
    assert torch.all(firm.fisher["out.weight"] >= 0.9 * first.fisher["out.weight"])
