"""Which encoder answers: a graph of ONNX Runtime, or torch where there is a GPU or no graph.

A graph is exported once for each base and kept in the cache (``HEADRACE_CACHE``), in a folder named
by the content of the base's files and by the versions of what exports and runs it.
"""

from __future__ import annotations

import functools
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.errors import ModelError, one_line
from headrace.files import digested
from headrace.model.text.bundled import bundled
from headrace.model.text.graph import Graph, GraphEncoder, Precision
from headrace.model.text.lora import Lora
from headrace.settings import Settings

logger = logging.getLogger(__name__)

TIMEOUT_S = 600.0  # of an export
FORMAT = 2  # of what `headrace.model.text.export` writes
TOOLS = ("torch", "transformers", "tokenizers", "onnx", "onnxruntime")
# Devices of graphics drivers on Linux, and on Windows' subsystem for it.
GPUS = (Path("/dev/nvidiactl"), Path("/dev/kfd"), Path("/dev/dxg"))


class TextEncoder(Protocol):
    """Makes states of texts. Any thread may call it."""

    def tokenize(self, texts: Sequence[str], most: int) -> list[list[int]]:
        """Return the token ids of each text, at most `most` of them."""

    def states(self, tokens: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Return the pooled states, (n, dim)."""


def serving_encoder(base: str, precision: Precision, adapter: Path | None) -> TextEncoder:
    """Return the encoder that answers for a base, with the adapter in the folder `adapter`.

    Raises:
        ModelError: base or adapter cannot be loaded.
    """
    lora = Lora.read(adapter) if adapter else None
    graph = None if _has_gpu() else shared_graph(base, precision)
    if graph is not None:
        return GraphEncoder(graph, lora)
    from headrace.model.text.encoder import shared_encoder

    encoder = shared_encoder(base)
    return encoder.merged(lora) if lora else encoder


@functools.cache
def shared_graph(base: str, precision: Precision) -> Graph | None:
    """Return the graph of this process; None, and a line in the log, where there can be none."""
    try:
        return Graph(exported(base), precision)
    except (ModelError, ImportError, OSError, RuntimeError, subprocess.TimeoutExpired) as error:
        logger.warning("base %r is served by torch: %s", base, one_line(error))
        return None


def exported(base: str) -> Path:
    """Return the folder of a base's graphs; the first call on a machine exports it.

    Raises:
        ModelError: it cannot be exported.
        OSError: the cache cannot be written.
        subprocess.TimeoutExpired: it takes too long.
    """
    source = base_folder(base)
    place = Settings.load().cache_path.resolve() / "onnx" / _key(source)
    if not place.is_dir():
        logger.info("exporting base %r to %s", base, place)
        done = subprocess.run(
            [sys.executable, "-m", "headrace.model.text.export", str(source), str(place)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise ModelError(f"export of {base!r}: {said[-1]}")
    return place


def base_folder(base: str) -> Path:
    """Return where the files of a base are; one of a hub is downloaded first.

    Raises:
        ModelError: it cannot be loaded.
    """
    if not base:
        return bundled()
    if Path(base).exists():
        return Path(base)
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(base, "config.json")
    if not isinstance(config, str):
        from headrace.model.text.encoder import shared_encoder

        shared_encoder(base)  # downloads it
        config = try_to_load_from_cache(base, "config.json")
    if not isinstance(config, str):
        raise ModelError(f"base: the files of {base!r} are in no cache")
    return Path(config).parent


def _key(folder: Path) -> str:
    made_by = repr((FORMAT, [(name, _version(name)) for name in TOOLS])).encode()
    return digested(filter(Path.is_file, folder.iterdir()), made_by)[:32]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _has_gpu() -> bool:
    if not any(path.exists() for path in GPUS):
        return False
    import torch

    return torch.cuda.is_available()
