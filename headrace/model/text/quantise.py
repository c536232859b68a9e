"""Weights of an encoder's graph in 8 bits, and what they are multiplied by, too.

A matrix has a scale for each of its columns, and each token's vector has a scale of its own, so
what else is in a batch changes nothing. Large channels are divided by what the rows of the matrix
are multiplied by (Xiao et al. 2023, "SmoothQuant"). Products are sums of integers, for which
processors have instructions of their own: here they took a quarter of the time of floats.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats32 = NDArray[np.float32]

LEVELS, MIDDLE = 127, 128  # of the integers on each side of the middle
LEAST = 1e-6  # of what is divided by
FUSED = "com.microsoft"  # the domain of ONNX Runtime's own operators
PREFIX = "eight_bits"


def quantise(path: Path, target: Path, feeds: Mapping[str, Any]) -> None:
    """Write the graph at `path` with matrices of 8 bits; `feeds` are inputs to see channels by."""
    import onnx

    model = onnx.load(path)
    graph = model.graph
    weights = {one.name: one for one in graph.initializer if len(one.dims) == 2}
    products = defaultdict(list)
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in weights:
            products[node.input[0]].append(node)
    largest = _largest(model, list(products), feeds)
    made: dict[str, list[Any]] = {}
    for number, (inputs, nodes) in enumerate(products.items()):
        arrays = [onnx.numpy_helper.to_array(weights[node.input[1]]) for node in nodes]
        smooth = _smooth(largest[inputs], np.max([np.abs(one).max(1) for one in arrays], axis=0))
        name = f"{PREFIX}.{number}"
        made[nodes[0].name] = _rows(graph, inputs, name, smooth)
        for at, (node, array) in enumerate(zip(nodes, arrays, strict=True)):
            made.setdefault(node.name, []).extend(
                _product(graph, node, f"{name}.{at}", name, array * smooth[:, None])
            )
    kept = [part for node in graph.node for part in made.get(node.name, [node])]
    del graph.node[:]
    graph.node.extend(kept)
    used = {name for node in kept for name in node.input}
    left = [one for one in graph.initializer if one.name in used]
    del graph.initializer[:]
    graph.initializer.extend(left)
    model.opset_import.append(onnx.helper.make_opsetid(FUSED, 1))
    onnx.save(model, target)


def _smooth(inputs: Floats32, weights: Floats32) -> Floats32:
    """What each channel is divided by: the root of how much larger it is than its weights."""
    found = np.sqrt(np.maximum(inputs, LEAST) / np.maximum(weights, LEAST))
    return np.asarray(found / found.mean(), np.float32).clip(1e-3)


def _rows(graph: Any, inputs: str, name: str, smooth: Floats32) -> list[Any]:
    """Nodes for the vectors `inputs` as integers, and the largest number of each vector."""
    from onnx import helper

    _constant(graph, f"{name}.smooth", 1 / smooth)
    _constant(graph, f"{PREFIX}.axis", np.array([-1]))
    _constant(graph, f"{PREFIX}.least", np.array(LEAST, np.float32))
    _constant(graph, f"{PREFIX}.step", np.array(1 / LEVELS, np.float32))
    _constant(graph, f"{PREFIX}.middle", np.array(MIDDLE, np.uint8))
    smoothed, high, low, under, size, share = (
        f"{name}.{one}" for one in ("smoothed", "high", "low", "under", "size", "share")
    )
    return [
        helper.make_node("Mul", [inputs, f"{name}.smooth"], [smoothed]),
        helper.make_node("ReduceMax", [smoothed, f"{PREFIX}.axis"], [high], keepdims=1),
        helper.make_node("ReduceMin", [smoothed, f"{PREFIX}.axis"], [low], keepdims=1),
        helper.make_node("Neg", [low], [under]),
        helper.make_node("Max", [high, under, f"{PREFIX}.least"], [size]),
        helper.make_node("Div", [smoothed, size], [share]),
        helper.make_node(
            "QuantizeLinear", [share, f"{PREFIX}.step", f"{PREFIX}.middle"], [f"{name}.integers"]
        ),
    ]


def _product(graph: Any, node: Any, name: str, rows: str, weight: Floats32) -> list[Any]:
    """Nodes for the product of integers, at the scale of what `node` gave."""
    from onnx import helper

    scale = np.maximum(np.abs(weight).max(0), LEAST) / LEVELS
    _constant(graph, f"{name}.weight", np.round(weight / scale).astype(np.int8))
    _constant(graph, f"{name}.scale", scale.astype(np.float32))
    return [
        helper.make_node(
            "MatMulIntegerToFloat",
            [
                f"{rows}.integers",
                f"{name}.weight",
                f"{PREFIX}.step",
                f"{name}.scale",
                f"{PREFIX}.middle",
            ],
            [f"{name}.shares"],
            domain=FUSED,
        ),
        helper.make_node("Mul", [f"{name}.shares", f"{rows}.size"], [node.output[0]]),
    ]


def _constant(graph: Any, name: str, array: NDArray[Any]) -> None:
    from onnx import numpy_helper

    if all(one.name != name for one in graph.initializer):
        graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))


def _largest(model: Any, names: Sequence[str], feeds: Mapping[str, Any]) -> dict[str, Floats32]:
    """The largest number of each channel of the values with these names."""
    import onnx
    import onnxruntime

    seen = copy.deepcopy(model)
    seen.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names
    )
    session = onnxruntime.InferenceSession(
        seen.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found = zip(names, session.run(names, feeds), strict=True)
    return {name: np.abs(one).reshape(-1, one.shape[-1]).max(0) for name, one in found}
