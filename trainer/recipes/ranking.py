"""Items in the order in which they are wanted, from clicks and where they were shown.

It is the network of `tabular`, which learns the probability of a click on an item that is looked
at. Where positions were logged, what is known of looks is taken out of the clicks
(`headrace.model.examination`): an item that nobody scrolled down to was not refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from headrace.errors import NothingToLearnError
from headrace.model.examination import CLIP, Examination, choice_weights, is_click
from headrace.model.inputs import Id
from headrace.model.recipe import Progress, Task, TrainingSet
from headrace.trainer.recipes import tabular
from headrace.trainer.recipes.tabular import load as load

TASKS: tuple[Task, ...] = ("ranking",)
NEEDS: tuple[str, ...] = ()
IDS: tuple[Id, ...] = ("item_id",)


class Config(tabular.Config, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a ranking by clicks.

    Attributes:
        clip: largest inverse propensity, of a look or a choice; 1 counts all clicks alike.
        steps: of the training, at most.
        batch_size: examples in one step.
        head_lr: learning rate.
        weight_decay: of the network.
        wide_strength: inverse of the L2 penalty on the weights of values.
        folds: how many times these weights are fitted to hold a part out.
        ewc: how firmly the network stays where older examples need it.
        columns: how many columns a version may have, of which all but the newest stay as they are.
    """

    clip: Annotated[float, Meta(ge=1)] = CLIP


def fit(
    dataset: TrainingSet, parent: Path | None, config: Config, progress: Progress, folder: Path
) -> Mapping[str, Any]:
    """Train the network on clicks; a label is a number, above 0 for one.

    Raises:
        NothingToLearnError: all items were clicked, or none.
    """
    clicks = sum(map(is_click, dataset.examples))
    if not 0 < clicks < len(dataset.examples):
        raise NothingToLearnError(
            "a ranking needs items with a click and items without one (policy default_label=0): "
            f"got {clicks} clicks on {len(dataset.examples)} items"
        )
    examination = Examination.of(dataset.examples)
    looks = examination.looked_at(dataset.examples, config.clip)
    weights = choice_weights(dataset.examples, examination, config.clip)
    examples = [
        replace(one, label=str(int(is_click(one))), weight=one.weight * weight, propensity=look)
        for one, look, weight in zip(dataset.examples, looks, weights, strict=True)
    ]
    report = tabular.fit(replace(dataset, examples=examples), parent, config, progress, folder)
    shown = {str(place): round(look, 3) for place, look in examination.by_position.items()}
    return {**report, "examination": examination.source, "looked_at": shown}
