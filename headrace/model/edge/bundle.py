"""Writes a classifier of texts or tables as a folder that answers by itself.

model.onnx        ids and mask in, pooled states out; the adapter's matrices are constants
tokenizer.json    words.json    arrays.npz    what else the version is made of
bundle.json       model, version, labels, weights of the parts, corrections
run.py            answers, keeps events and sends them; needs onnxruntime, numpy, tokenizers
README.md         how
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from headrace.errors import ModelError
from headrace.events.labels import label_text
from headrace.files import folder_once
from headrace.model.artifact import Manifest, read_manifest
from headrace.model.edge import answers
from headrace.model.inputs import CLIP, STEPS_PER_DEVIATION
from headrace.model.network import NAME_BUCKETS, WIDE_BUCKETS
from headrace.model.text.graph import Graph
from headrace.model.text.linear import FLOOR
from headrace.model.text.lora import Lora
from headrace.model.text.served import shared_graph
from headrace.model.text.version import (
    ARRAYS,
    CORRECTION,
    FEATURES,
    has_adapter,
    read_config,
    read_vocabulary,
)
from headrace.model.text.words import CHARACTERS, GROUP
from headrace.model.weights import HEAD_WEIGHTS
from headrace.model.weights import read_config as read_table_config

FORMAT = 1
PROGRAM = ("run.py", "answers.py", "outbox.py")
RECIPES = ("text_classifier", "tabular")
PARTS = {"embedding": "states", "adapter": "states", "features": "table"}  # as bundles call them
Made = tuple[Sequence[str], dict[str, Any], dict[str, Any]]  # labels, facts, arrays
README = """\
# {model} {version}, offline

    pip install onnxruntime numpy tokenizers
    python run.py predict "a text" --segment eu --feature size=3
    python run.py feedback REQUEST_ID LABEL
    python run.py sync --url http://127.0.0.1:8321

Questions and feedback wait in `outbox.jsonl` until `sync` has sent them. It can be called from
Python, too: the first lines of `run.py` show how.
"""


def write_bundle(folder: Path, model: str, model_version: str, target: Path) -> dict[str, Any]:
    """Write the version in `folder` as a bundle to the new folder `target`; return bundle.json.

    Raises:
        ModelError: `target` is there already, or the version cannot answer by itself.
    """
    if target.exists():
        raise ModelError(f"to: must be a folder that is not there yet, got {str(target)!r}")
    manifest = read_manifest(folder)
    if manifest.recipe not in RECIPES or manifest.task != "classification":
        raise ModelError(
            f"export: the version must be a classification by {' or '.join(RECIPES)}, "
            f"got a {manifest.task} by {manifest.recipe}"
        )
    if manifest.ids:
        raise ModelError(f"export: the version must not read ids, got {', '.join(manifest.ids)}")
    with folder_once(target) as draft:
        if manifest.recipe == "tabular":
            labels, facts, arrays = _table(folder)
            facts["weights"] = {"table": 1.0}
        else:
            labels, facts, arrays = _texts(folder, draft)
        facts = _said(manifest, labels, model, model_version) | facts
        np.savez(draft / answers.ARRAYS, **arrays)
        (draft / answers.BUNDLE).write_text(json.dumps(facts, indent=2) + "\n")
        for name in PROGRAM:
            text = Path(__file__).with_name(name).read_text()
            (draft / name).write_text(text.replace(f"from {__package__}.", "from "))
        (draft / "README.md").write_text(README.format(model=model, version=model_version))
    return facts


def _said(
    manifest: Manifest, labels: Sequence[str], model: str, model_version: str
) -> dict[str, Any]:
    """What is said of every version."""
    positive = manifest.positive_label
    if positive not in labels:
        positive = labels[1] if len(labels) == 2 else None
    return {
        "format": FORMAT,
        "model": model,
        "model_version": model_version,
        "labels": [label_text(label) for label in labels],
        "positive_label": None if positive is None else label_text(positive),
        "features": manifest.features,
        "precision": "float32",
        "floor": FLOOR,
        "shift": list(manifest.shift),
        "corrections": {
            key: list(labels).index(label)
            for key, label in manifest.corrections.items()
            if label in labels
        },
    }


def _texts(folder: Path, draft: Path) -> Made:
    """Write graph, tokenizer and vocabulary; return the rest."""
    config = read_config(folder)
    adapted, precision = has_adapter(config), config.get("precision", "float32")
    graph = shared_graph(config["base"], precision)
    if graph is None:
        raise ModelError(f"export: base {config['base']!r} cannot be exported to ONNX; see the log")
    _write_graph(graph, Lora.read(folder) if adapted else None, draft / answers.GRAPH)
    graph.tokenizer.save(str(draft / answers.TOKENIZER))
    (draft / answers.WORDS).write_text(json.dumps(read_vocabulary(folder)))
    arrays: dict[str, Any] = load_file(folder / ARRAYS)
    arrays |= _under("correction", load_file(folder / CORRECTION))
    weights = {PARTS.get(name, name): weight for name, weight in config["weights"].items()}
    facts = {
        "precision": precision,
        "tokens": config["tokens"],
        "characters": CHARACTERS,
        "group": GROUP,
        "weights": weights,
    }
    if "table" in weights:
        labels, table, more = _table(folder / FEATURES)
        columns = [config["labels"].index(label) for label in labels]
        facts["table"] = table["table"] | {"columns": columns}
        arrays |= more
    return config["labels"], facts, arrays


def _table(folder: Path) -> Made:
    """Return what a network of features is made of."""
    config = read_table_config(folder)
    schema, head = config["schema"], load_file(folder / HEAD_WEIGHTS)
    if any(name.startswith("parent.") for name in head):
        raise ModelError("export: the network of features must have one column, got several")
    facts = {
        **{name: schema[name] for name in ("numerics", "mean", "scale")},
        "clip": CLIP,
        "steps": STEPS_PER_DEVIATION,
        "wide": WIDE_BUCKETS,
        "names": NAME_BUCKETS,
        "columns": list(range(len(config["labels"]))),
    }
    return config["labels"], {"table": facts}, _under("table", head)


def _under(part: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{part}.{name}": one for name, one in arrays.items()}


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
