"""Writes a version of texts as a folder that answers by itself.

model.onnx        ids and mask in, pooled states out; the adapter's matrices are constants
tokenizer.json    words.json    arrays.npz    what else the version is made of
bundle.json       model, version, labels, weights of the parts, corrections
run.py            answers, keeps events and sends them; needs onnxruntime, numpy, tokenizers
README.md         how
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from headrace.errors import ModelError
from headrace.events.labels import label_text
from headrace.files import folder_once
from headrace.model.artifact import Manifest, read_manifest
from headrace.model.edge import run
from headrace.model.text.graph import Graph
from headrace.model.text.linear import FLOOR
from headrace.model.text.lora import Lora
from headrace.model.text.served import shared_graph
from headrace.model.text.version import (
    ARRAYS,
    CORRECTION,
    VOCABULARY,
    has_adapter,
    read_config,
)  # fmt: skip
from headrace.model.text.words import CHARACTERS

FORMAT = 1
README = """\
# {model} {version}, offline

    pip install onnxruntime numpy tokenizers
    python run.py predict "a text"
    python run.py feedback REQUEST_ID LABEL
    python run.py sync --url http://127.0.0.1:8321

Questions and feedback wait in `outbox.jsonl` until `sync` has sent them. `run.py` can be imported,
too: its first lines show how.
"""


def write_bundle(folder: Path, model: str, model_version: str, target: Path) -> dict[str, Any]:
    """Write the version in `folder` as a bundle to the new folder `target`; return bundle.json.

    Raises:
        ModelError: `target` is there already, or the version cannot answer by itself.
    """
    if target.exists():
        raise ModelError(f"to: must be a folder that is not there yet, got {str(target)!r}")
    manifest = read_manifest(folder)
    if manifest.recipe != "text_classifier":
        raise ModelError(
            f"export: the version must be of the recipe text_classifier, got {manifest.recipe!r}"
        )
    config = read_config(folder)
    if "features" in config["weights"]:
        raise ModelError(
            "export: the version must be of texts alone, got one with a network of features; "
            "train one with `features = []` in headrace.toml"
        )
    graph = shared_graph(config["base"], config.get("precision", "float32"))
    if graph is None:
        raise ModelError(f"export: base {config['base']!r} cannot be exported to ONNX; see the log")
    facts = _facts(manifest, config, model, model_version)
    lora = Lora.read(folder) if has_adapter(config) else None
    with folder_once(target) as draft:
        _write_graph(graph, lora, draft / run.GRAPH)
        graph.tokenizer.save(str(draft / run.TOKENIZER))
        shutil.copyfile(folder / VOCABULARY, draft / run.WORDS)
        arrays: dict[str, Any] = load_file(folder / ARRAYS)
        arrays |= {
            f"correction.{name}": one for name, one in load_file(folder / CORRECTION).items()
        }
        np.savez(draft / run.ARRAYS, **arrays)
        (draft / run.BUNDLE).write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
        shutil.copyfile(run.__file__, draft / "run.py")
        (draft / "README.md").write_text(README.format(model=model, version=model_version))
    return facts


def _facts(
    manifest: Manifest, config: dict[str, Any], model: str, model_version: str
) -> dict[str, Any]:
    labels = config["labels"]
    positive = manifest.positive_label
    if positive not in labels:
        positive = labels[1] if len(labels) == 2 else None
    weights = config["weights"]
    return {
        "format": FORMAT,
        "model": model,
        "model_version": model_version,
        "labels": [label_text(label) for label in labels],
        "positive_label": None if positive is None else label_text(positive),
        "features": manifest.features,
        "precision": config.get("precision", "float32"),
        "tokens": config["tokens"],
        "characters": CHARACTERS,
        "floor": FLOOR,
        "weights": {
            "words": weights["words"],
            "states": weights["adapter" if has_adapter(config) else "embedding"],
        },
        "shift": list(manifest.shift),
        "corrections": {
            key: labels.index(label)
            for key, label in manifest.corrections.items()
            if label in labels
        },
    }


def _write_graph(graph: Graph, lora: Lora | None, path: Path) -> None:
    """Write the graph with the matrices of one adapter, or of none, as constants."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(graph.path)
    constants = graph.constants(lora)
    model.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in constants.items()
    )
    free = [one for one in model.graph.input if one.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(free)
    onnx.save(model, path)
