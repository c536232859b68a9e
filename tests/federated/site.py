"""A site of a federation, run as a program: `site.py ADDRESS NUMBER FOLDER HOW`.

It writes what the recipe of texts made into FOLDER, or, with a HOW other than `text`, joins with
matrices of its own.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from headrace.errors import HeadraceError
from headrace.model.config import Federation
from headrace.model.federated import Matrices
from headrace.model.inputs import Example
from headrace.model.recipe import TrainingExample, TrainingSet
from headrace.trainer.recipes._federation import average_with_others

FLOWER = Path(sys.prefix) / "flower" / "bin" / "python"
WORDS = {"animal": ["dog", "cat", "horse", "cow"], "place": ["house", "city", "school", "church"]}
ABOUT = {"base": "the same"}
START = {
    "l.lora_A.weight": np.ones((2, 3), np.float32),
    "l.lora_B.weight": np.zeros((4, 2), np.float32),
}


def settings(address: str, **others: Any) -> Federation:
    return Federation(**{"server": address, "wait_s": 60.0, "python": str(FLOWER), **others})


def texts(number: int) -> TrainingSet:
    """Other words at each site, and more examples at the second one."""
    examples = [
        TrainingExample(Example(f"we saw {copy} of the {word} there"), label)
        for label, words in WORDS.items()
        for word in words[2 * number : 2 * number + 2]
        for copy in range(6 + 4 * number)
    ]
    return TrainingSet("m", "classification", examples)


def text_config(federation: Federation | None) -> Any:
    from headrace.trainer.recipes.text_classifier import Config

    return Config(adapter="always", epochs=1, tokens=16, federation=federation)


def learn(number: int, how: str) -> Any:
    """A round that adds 1 + NUMBER to B."""

    def round_of(shared: Matrices, at: int, _: int) -> tuple[Matrices, int]:
        if how == "dies" and at == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "hangs" and at == 2:
            time.sleep(600)
        added = np.nan if how == "spoils" else 1 + number
        matrices = {name: one + added if "lora_B" in name else one for name, one in shared.items()}
        return matrices, 10 * (1 + number)

    return round_of


def main(address: str, number: int, folder: Path, how: str) -> None:
    federation = settings(address, **({"certificate": how} if how.endswith(".pem") else {}))
    if how == "text":
        import torch

        from headrace.trainer.recipes import text_classifier

        torch.set_num_threads(1)
        dataset, config = texts(number), text_config(federation)
        print(text_classifier.fit(dataset, None, config, lambda *_: None, folder))
        return
    about = {"base": "another"} if how == "another base" else ABOUT
    found, rounds = average_with_others(federation, START, about, learn(number, how))
    (folder / "found.json").write_text(
        json.dumps([rounds, {name: one.tolist() for name, one in found.items()}])
    )


if __name__ == "__main__":
    try:
        main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
    except HeadraceError as error:
        sys.exit(f"{error}")
