"""A published version on disk: its folder, what every one of them holds, and where it lies.

    ROOT/churn-3f2a…/model.json                    the name of the model
    ROOT/churn-3f2a…/v3-0199…-1/version.json       recipe, task, labels
                     README.md                     the model card
                     …                             what the recipe wrote
                     judged/                       the same before it learned what judged it

A folder is named by its version, run and attempt, so no two trainers ever write the same one. Until
it is published it is called `.draft-0199…-1`.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec

from headrace.errors import ContractError, ModelError, one_line
from headrace.files import sync, write_whole
from headrace.model.inputs import Id
from headrace.settings import FEATURE_SERVICE

VERSION, CARD, JUDGED = "version.json", "README.md", "judged"
_WRITTEN = re.compile(r"(?:v[0-9]+(?:\.[0-9]+)?|\.draft)-(.+)-([0-9]+)")


# A version that follows from another one in a step: v4.1, v4.2, … from v4.
STEP = re.compile(r"(v[0-9]+)\.([0-9]+)")


def family(model_version: str) -> str:
    """Return the version that a run trained, of a step that follows from it; else the name."""
    found = STEP.fullmatch(model_version)
    return found[1] if found else model_version


class Run(NamedTuple):
    """An attempt at a run; no other one has its id and number."""

    run_id: str
    attempt: int

    def __str__(self) -> str:
        return f"{self.run_id}-{self.attempt}"


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is said of every version, whatever recipe made it.

    Attributes:
        labels: the classes, in the order of the recipe's answers; none but for a classification.
        positive_label: whose probability is the score; None: that of the predicted class.
        features: names of the features that it is given; None: all.
        ids: those of the event that it is given as features, too.
        feature_service: of the feature store, from which it was trained and is served.
        looked_up: the features of that service that it was trained with; None, of a version of
            before, those of them that it reads.
        corrections: labels that were set by hand, by `input_key`.
        shift: what is added to the logit of each label, where classes were balanced in training.
        learned_to: the last event time that it learned, in unix seconds, of a version as the gate
            judged it; None: as the metrics of the version say.
        report: what the recipe says of its training.
    """

    recipe: str
    task: str
    labels: tuple[str, ...] = ()
    positive_label: str | None = None
    features: tuple[str, ...] | None = None
    ids: tuple[Id, ...] = ()
    feature_service: str = FEATURE_SERVICE
    looked_up: tuple[str, ...] | None = None
    corrections: Mapping[str, str] = {}
    shift: tuple[float, ...] = ()
    learned_to: float | None = None
    report: Mapping[str, Any] = {}


@contextmanager
def draft_folder(root: Path, model: str, run: Run) -> Iterator[Path]:
    """Give an empty folder to write a version into; what was not published is removed.

    Raises:
        OSError: it cannot be made, or is there already.
    """
    draft = root / folder_name(model) / f".draft-{run}"
    draft.mkdir(parents=True)
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def publish_draft(
    draft: Path, model: str, model_version: str, manifest: Manifest, card: str
) -> Path:
    """Add manifest and card to a draft, sync it to disk and rename it; return its place.

    Raises:
        ModelError: the version is not called v1, v2, v2.1 …
        OSError: it cannot be written, or is there already.
    """
    if not re.fullmatch(r"v[0-9]+(\.[0-9]+)?", model_version):
        raise ModelError(
            f"model_version: must be v1, v2, v2.1 … to be published, got {model_version!r}"
        )
    place = draft.with_name(draft.name.replace(".draft", model_version, 1))
    if place.exists():
        raise FileExistsError(f"{place} is there already")
    _write_manifest(draft, manifest)
    (draft / CARD).write_text(card, encoding="utf-8")
    named = place.parent / "model.json"
    if not named.exists():
        text = json.dumps({"model": model}, ensure_ascii=False)
        write_whole(named, text + "\n", mode=0o644)
    for path in (*draft.rglob("*"), draft):
        sync(path)
    draft.rename(place)
    for folder in (place.parent, place.parent.parent, place.parent.parent.parent):
        sync(folder)
    return place.resolve()


def keep_as_judged(draft: Path, manifest: Manifest) -> None:
    """Copy a draft into itself, as a version of its own, before it learns what judged it."""
    shutil.copytree(draft, draft / JUDGED)
    _write_manifest(draft / JUDGED, manifest)


def as_judged(folder: Path) -> Path:
    """Return the folder of a version as it was when the gate judged it."""
    return folder / JUDGED if (folder / JUDGED).is_dir() else folder


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    text = msgspec.json.format(msgspec.json.encode(manifest))
    (folder / VERSION).write_bytes(text + b"\n")


def read_manifest(folder: Path) -> Manifest:
    """Return what is said of a version.

    Raises:
        ModelError: there is nothing, or nothing that can be read.
    """
    try:
        if (folder / VERSION).exists():
            return msgspec.json.decode((folder / VERSION).read_bytes(), type=Manifest)
        return _before_recipes(json.loads((folder / "config.json").read_text()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder.name} is no readable artifact: {error}") from None


def _before_recipes(config: Mapping[str, Any]) -> Manifest:
    """Return the same of a version that was published before there were recipes."""
    return Manifest(
        recipe="text_classifier" if config["schema"]["has_text"] else "tabular",
        task="classification",
        labels=tuple(config["labels"]),
        positive_label=config.get("positive_label"),
    )


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
        for entry in path.rglob("*"):
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
