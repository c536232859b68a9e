"""Settings: every ``HEADRACE_*`` environment variable, its type, default and meaning.

Nothing else in Headrace reads the environment. An unknown ``HEADRACE_*`` variable is an error,
so that a typo is found at start and not in production.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from headrace.errors import SettingError

PREFIX = "HEADRACE_"
# Read by the test suite and the build, not by the product.
IGNORED = ("HEADRACE_TEST_", "HEADRACE_PG")


def _setting(
    default: Any,
    doc: str,
    *,
    minimum: float | None = None,
    allowed: tuple[str, ...] = (),
    secret: bool = False,
) -> Any:
    return field(
        default=default,
        repr=not secret,
        metadata={"doc": doc, "minimum": minimum, "allowed": allowed, "secret": secret},
    )


@dataclass(frozen=True)
class Settings:
    """The settings of one process. `Settings.load()` reads them from the environment."""

    home: Path = _setting(Path(".headrace"), "folder of everything Headrace keeps on this machine")
    engine: str = _setting(
        "postgres",
        "what keeps the views: postgres or risingwave",
        allowed=("postgres", "risingwave"),
    )
    dsn: str = _setting(
        "",
        "connection string of the engine: a PostgreSQL 16 or later, empty for the embedded one, "
        "or a RisingWave",
        secret=True,
    )
    registry_dsn: str = _setting(
        "",
        "connection string of a PostgreSQL for the registry of Feast; empty: that of the engine",
        secret=True,
    )
    reader_dsn: str = _setting(
        "",
        "connection string of `headrace_reader` on the database of HEADRACE_DSN, for psql and "
        "status; the embedded one's is known",
        secret=True,
    )
    host: str = _setting("127.0.0.1", "address that the gateway binds to")
    port: int = _setting(8321, "port of the gateway; 0 takes a free one", minimum=0)
    allowed_hosts: str = _setting(
        "",
        "names under which the gateway is asked, beside localhost and its addresses, "
        "such as `gateway,headrace.example.org`",
    )
    owner_key: str = _setting(
        "",
        "key of whoever may change versions and policies over HTTP, 16 characters or more; "
        "empty: `owner-key` in the home, made at the first start",
        secret=True,
    )
    postgres_port: int = _setting(
        0, "port of the embedded PostgreSQL; 0 takes a free one and keeps it", minimum=0
    )
    linger_ms: int = _setting(
        10, "how long the log waits for more events before it commits a batch", minimum=0
    )
    batch_rows: int = _setting(10_000, "most events that one commit takes", minimum=1)
    queue_rows: int = _setting(
        100_000, "events that may wait in memory before callers are told to wait", minimum=1
    )
    poll_s: float = _setting(
        1.0, "how often the trainer and the gateway look at their views, in seconds", minimum=0.01
    )
    lease_s: float = _setting(
        60.0, "after how many seconds without a heartbeat a trainer's claim is free", minimum=1
    )
    artifacts: str = _setting("", "folder of published versions; empty: `artifacts` in the home")
    kafka: str = _setting(
        "", "Kafka brokers that events go to, host:port,...; empty: straight to the database"
    )
    kafka_prefix: str = _setting("headrace.", "what the names of its topics begin with")
    kafka_partitions: int = _setting(6, "partitions of a topic that is made", minimum=1)
    kafka_replicas: int = _setting(1, "copies of a topic that is made", minimum=1)
    kafka_retention_h: int = _setting(
        336, "hours for which a topic that is made keeps its events", minimum=1
    )
    kafka_security: str = _setting(
        "PLAINTEXT",
        "protocol: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL",
        allowed=("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
    )
    kafka_mechanism: str = _setting(
        "SCRAM-SHA-512",
        "SASL mechanism: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512",
        allowed=("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"),
    )
    kafka_user: str = _setting("", "user of SASL")
    kafka_password: str = _setting("", "password of SASL", secret=True)
    kafka_ca: str = _setting("", "file of the authorities that sign the brokers' certificates")
    grafana_url: str = _setting("", "address of a Grafana to push dashboards to")
    grafana_token: str = _setting("", "service account token of that Grafana", secret=True)

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
        """Read the settings from `environ` (default: the process's), then apply `overrides`.

        Raises:
            SettingError: an unknown or malformed ``HEADRACE_*`` variable.
        """
        environ = os.environ if environ is None else environ
        known = {item.name: item for item in fields(cls)}
        values: dict[str, Any] = {}
        for variable, text in environ.items():
            if not variable.startswith(PREFIX) or variable.startswith(IGNORED):
                continue
            name = variable.removeprefix(PREFIX).lower()
            if name not in known:
                allowed = ", ".join(sorted(PREFIX + key.upper() for key in known))
                raise SettingError(f"{variable}: no such setting; there are {allowed}")
            values[name] = _parse(variable, text, known[name].default)
        values.update({key: value for key, value in overrides.items() if value is not None})
        for name, value in values.items():
            minimum, allowed = (known[name].metadata[rule] for rule in ("minimum", "allowed"))
            if minimum is not None and value < minimum:
                raise SettingError(
                    f"{PREFIX}{name.upper()}: must be at least {minimum}, got {value}"
                )
            if allowed and value not in allowed:
                raise SettingError(
                    f"{PREFIX}{name.upper()}: must be one of {', '.join(allowed)}, got {value!r}"
                )
        settings = cls(**values)
        for name in ("dsn", "kafka", "registry_dsn"):
            if settings.engine == "risingwave" and not getattr(settings, name):
                raise SettingError(
                    f"{PREFIX}{name.upper()}: must be set with {PREFIX}ENGINE=risingwave"
                )
        return settings

    @property
    def artifacts_path(self) -> Path:
        """Folder of the published versions."""
        return Path(self.artifacts) if self.artifacts else self.home / "artifacts"


def _parse(variable: str, text: str, default: Any) -> Any:
    kind = type(default)
    try:
        return kind(text)
    except ValueError:
        words = {int: "a whole number", float: "a number"}
        raise SettingError(f"{variable}: must be {words[kind]}, got {text!r}") from None


def describe() -> list[tuple[str, str, str]]:
    """Return (variable, default, meaning) of every setting, for the docs and `--help`."""
    return [
        (PREFIX + item.name.upper(), str(item.default), item.metadata["doc"])
        for item in fields(Settings)
    ]


def project_path(name: str) -> Path:
    """Return a folder of the project (``sql``, ``dbt_project``, ...), in a checkout or a wheel."""
    package = Path(__file__).parent
    for candidate in (package.parent / name, package / "_project" / name):
        if candidate.is_dir():
            return candidate
    raise SettingError(f"the folder {name} of Headrace is missing beside {package}")
