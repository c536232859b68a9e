"""A published version on disk: its files, how they are saved and loaded, and where they lie.

    ROOT/churn-3f2a…/model.json                    the name of the model
    ROOT/churn-3f2a…/v3-0199…-1/config.json        labels, schema, settings, architecture
                     head.safetensors              all weights beside those of the text
                     adapter_model.safetensors     LoRA matrices, of a model that reads text
                     adapter_config.json           peft's description of them
                     README.md                     the model card

A folder is named by its version, run and attempt, so no two trainers ever write the same one.

Torch is imported inside the functions that need it: the gateway and the doctor check addresses
without it.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from headrace.errors import ContractError, ModelError, one_line
from headrace.files import sync, write_whole
from headrace.model.inputs import Schema

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from headrace.model.network import Adapter, Backbone

CONFIG = "config.json"
HEAD_WEIGHTS = "head.safetensors"
ADAPTER_WEIGHTS, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"


_WRITTEN = re.compile(r"(?:v[0-9]+|\.draft)-(.+)-([0-9]+)")


class Run(NamedTuple):
    """An attempt at a run; no other one has its id and number."""

    run_id: str
    attempt: int

    def __str__(self) -> str:
        return f"{self.run_id}-{self.attempt}"


@dataclass(frozen=True, slots=True)
class Artifact:
    """What one fine-tune made, in memory."""

    labels: tuple[str, ...]
    schema: Schema
    finetune: dict[str, Any]  # its settings; `rank` and `alpha` are those of the LoRA matrices
    adapter: dict[str, Tensor]  # LoRA matrices; empty where the model reads no text
    head: dict[str, Tensor]
    label_shares: dict[str, float]  # weighted, of the training set
    report: dict[str, Any]  # examples, steps, seconds, train_loss, warm_started, seed, device
    positive_label: str | None = None  # whose probability is the score; None: the predicted one's

    def save(self, folder: Path, model_version: str) -> None:
        """Write safetensors and JSON into the folder, nothing pickled."""
        from safetensors.torch import save_file

        from headrace.model.network import lora_config

        folder.mkdir(parents=True, exist_ok=True)
        if self.adapter:
            save_file(self.adapter, folder / ADAPTER_WEIGHTS, {"format": "pt"})
            lora_config(self.finetune["rank"], self.finetune["alpha"]).save_pretrained(folder)
        save_file(self.head, folder / HEAD_WEIGHTS, {"format": "pt"})
        config = _architecture() | {
            "model_version": model_version,
            "labels": self.labels,
            "positive_label": self.positive_label,
            "schema": self.schema.to_dict(),
            "label_shares": self.label_shares,
            "finetune": self.finetune,
            "report": self.report,
        }
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def save_version(
    root: Path, model: str, model_version: str, run: Run, artifact: Artifact, card: str
) -> Path:
    """Write a version's folder, synced to disk, and rename it to its place; return the place.

    Raises:
        ModelError: the version is not called v1, v2, …
        OSError: it cannot be written, or is there already.
    """
    if not re.fullmatch(r"v[0-9]+", model_version):
        raise ModelError(f"model_version: must be v1, v2, … to be published, got {model_version!r}")
    place = root / folder_name(model) / f"{model_version}-{run}"
    draft = place.with_name(f".draft-{run}")
    made = [folder for folder in draft.parents if not folder.exists()]
    draft.mkdir(parents=True)
    try:
        artifact.save(draft, model_version)
        (draft / "README.md").write_text(card, encoding="utf-8")
        name = json.dumps({"model": model}, ensure_ascii=False)
        if not (place.parent / "model.json").exists():
            write_whole(place.parent / "model.json", name + "\n", mode=0o644)
        for path in (*draft.rglob("*"), draft):
            sync(path)
        draft.rename(place)
        for folder in (place, *made):
            sync(folder.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return place.resolve()


def written_folders(root: Path, model: str) -> list[tuple[Path, Run]]:
    """Return the folders of versions and drafts of a model, with the run that wrote each."""
    try:
        folders = sorted((root / folder_name(model)).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    named = [(path, _WRITTEN.fullmatch(path.name)) for path in folders]
    return [(path, Run(name[1], int(name[2]))) for path, name in named if name]


def folder_name(model: str) -> str:
    """Return the name of a model's folder: its own name as far as it is plain, and its hash.

    Whatever the model is called, this is one short name of letters, digits, dashes and
    underscores, and no two models share one, even on a file system that ignores case.
    """
    readable = re.sub(r"[^A-Za-z0-9_]+", "-", model)[:40].strip("-")
    digest = hashlib.blake2b(model.encode(), digest_size=10).hexdigest()
    return f"{readable}-{digest}" if readable else digest


def load_adapter(
    folder: Path, backbone: Backbone | None = None, device: str | torch.device | None = None
) -> Adapter:
    """Load a version. Its device is the backbone's, where it reads text.

    Raises:
        ModelError: the artifact is incomplete or of another format, or it reads text and no
            backbone was given.
    """
    import torch

    from headrace.model.network import Adapter, Head, default_device

    config = read_config(folder)
    schema = Schema.from_dict(config["schema"])
    layers: list[nn.Module] = []
    text_dim = 0
    if schema.has_text:
        if backbone is None:
            raise ModelError(f"{folder.name} reads text: load_adapter needs a backbone, got None")
        layers, text_dim, device = _merged_layers(folder, backbone), backbone.dim, backbone.device
    head = Head(schema, len(config["labels"]), text_dim)
    head.load_state_dict(read_weights(folder, HEAD_WEIGHTS))
    return Adapter(config, layers, head, torch.device(device or default_device()))


def read_config(folder: Path) -> dict[str, Any]:
    """Return what config.json says.

    Raises:
        ModelError: there is none, or this code cannot serve the artifact.
    """
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder.name} is no readable artifact: {error}") from None
    config.setdefault("backbone_tokens", config.get("trunk_tokens"))  # as it was called first
    for name, ours in _architecture().items():
        if config.get(name) != ours:
            raise ModelError(f"{folder.name}: {name} must be {ours!r}, got {config.get(name)!r}")
    return config


def read_weights(folder: Path, name: str, device: str = "cpu") -> dict[str, Tensor]:
    """Return the tensors of HEAD_WEIGHTS or ADAPTER_WEIGHTS; ModelError where it is missing."""
    from safetensors.torch import load_file

    return load_file(_file(folder, name), device=device)


def _architecture() -> dict[str, Any]:
    """What an artifact and the code that serves it must agree on."""
    from headrace.model import network

    return {
        "format": 1,
        "base_model": network.BASE_MODEL,
        "layers": network.LAYERS,
        "frozen_layers": network.FROZEN_LAYERS,
        "backbone_tokens": network.BACKBONE_TOKENS,
        "wide_tokens": network.WIDE_TOKENS,
        "wide_buckets": network.WIDE_BUCKETS,
    }


def _merged_layers(folder: Path, backbone: Backbone) -> list[nn.Module]:
    """Upper layers with the LoRA matrices added into the weights; all others stay shared."""
    from torch import nn

    from headrace.model.network import ADAPTED, FROZEN_LAYERS

    config = json.loads(_file(folder, ADAPTER_CONFIG).read_text())
    adapter = read_weights(folder, ADAPTER_WEIGHTS, str(backbone.device))
    scale = config["lora_alpha"] / config["r"]
    layers = list(backbone.copy().encoder.layer)
    for number, layer in enumerate(layers[FROZEN_LAYERS:], FROZEN_LAYERS):
        for name in ADAPTED:
            key = f"base_model.model.encoder.layer.{number}.attention.self.{name}"
            linear = getattr(layer.attention.self, name)
            delta = adapter[f"{key}.lora_B.weight"] @ adapter[f"{key}.lora_A.weight"]
            linear.weight = nn.Parameter(linear.weight + scale * delta, requires_grad=False)
    return layers[FROZEN_LAYERS:]


def _file(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise ModelError(f"{folder.name} lacks {name}")
    return folder / name


def artifact_path(uri: str, root: Path) -> Path:
    """Return the folder that an address names: a path or ``file://`` address inside `root`.

    Raises:
        ModelError: the address is of another kind or leads elsewhere, there is no such folder, or
            it holds a link (which may lead anywhere) or a pipe (which never ends).
    """
    path = local_path(uri)
    if path is None:
        raise ModelError(f"artifact_uri: must be a path or a file:// address, got {uri!r}")
    if not is_inside(path, root):
        raise ModelError(
            f"artifact_uri: must be inside {root.resolve()}, the folder of published versions "
            f"(HEADRACE_ARTIFACTS), got {uri!r}"
        )
    try:
        if not path.is_dir():
            raise ModelError(f"artifact_uri: there is no folder {uri!r}")
        for entry in path.iterdir():
            mode = entry.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise ModelError(f"artifact_uri: {entry} must be a file, not a link or a pipe")
    except OSError as error:
        raise ModelError(f"artifact_uri: {path} cannot be read: {one_line(error)}") from None
    return path


def check_address(uri: str | None, root: Path) -> None:
    """Refuse an address on this machine that `artifact_path` would not take.

    Raises:
        ContractError: it leads out of the folder `root`.
    """
    path = local_path(uri) if uri else None
    if path is not None and not is_inside(path, root):
        raise ContractError("artifact_uri", f"inside the folder {root.resolve()}", uri)


def local_path(uri: str) -> Path | None:
    """The path that an address names on this machine; None for any other kind of address."""
    try:
        parts = urlsplit(uri)
    except ValueError:  # no address at all
        return None
    if parts.scheme not in ("", "file"):
        return None
    return Path(unquote(parts.path)) if parts.scheme else Path(uri)


def is_inside(path: Path, root: Path) -> bool:
    """Whether a path leads into a folder, all links followed."""
    try:
        return root.resolve() in path.resolve().parents
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, a circle of links
        return False
