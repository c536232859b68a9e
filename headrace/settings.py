"""Settings: every ``HEADRACE_*`` environment variable, its type, default and meaning.

Nothing else in Headrace reads the environment, but for secrets of receivers of alerts, in variables
that ``headrace.toml`` names. An unknown ``HEADRACE_*`` variable is an error,
so that a typo is found at start and not in production.
"""

# Why not pydantic-settings: every command reads the settings. A process that imports it and reads
# eight settings was measured to take 0.44 s of CPU; one that reads all of them here takes 0.09 s,
# an empty one 0.02 s, `headrace --help` 0.15 s. It adds 11 MB to a base install of 6 MB, ignores
# unknown variables, so that check would remain, and its errors would have to be reworded.
from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from headrace.errors import SettingError

PREFIX = "HEADRACE_"
# The feature service of models that name none.
FEATURE_SERVICE = "training_v1"
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
        metadata={"doc": doc, "minimum": minimum, "allowed": allowed},
    )


@dataclass(frozen=True)
class Settings:
    """The settings of one process. `Settings.load()` reads them from the environment."""

    home: Path = _setting(
        Path(".headrace"), "folder of all local data: embedded database, logs, artifacts, owner key"
    )
    engine: str = _setting(
        "postgres",
        "the database that keeps the views: postgres or risingwave",
        allowed=("postgres", "risingwave"),
    )
    dsn: str = _setting(
        "",
        "connection string of the engine: PostgreSQL 16 or later, or RisingWave; "
        "empty: the embedded PostgreSQL",
        secret=True,
    )
    registry_dsn: str = _setting(
        "",
        "connection string of a PostgreSQL for Feast's registry; empty: the engine",
        secret=True,
    )
    reader_dsn: str = _setting(
        "",
        "connection string as `headrace_reader` on the database of HEADRACE_DSN, for psql and "
        "status; not needed with the embedded PostgreSQL",
        secret=True,
    )
    host: str = _setting("127.0.0.1", "address that the gateway binds to")
    port: int = _setting(8321, "port of the gateway; 0: a free one", minimum=0)
    allowed_hosts: str = _setting(
        "",
        "host names that requests to the gateway may use besides localhost and its addresses, "
        "such as `gateway,headrace.example.org`",
    )
    owner_key: str = _setting(
        "",
        "key that allows a request to change versions and policies, 16 characters or more; "
        "empty: `owner-key` in the home, made at the first start",
        secret=True,
    )
    postgres_port: int = _setting(
        0, "port of the embedded PostgreSQL; 0: a free one, which it keeps", minimum=0
    )
    linger_ms: int = _setting(
        10,
        "how long the log waits at most for more events before it commits a batch, in milliseconds",
        minimum=0,
    )
    batch_rows: int = _setting(10_000, "most events in one commit", minimum=1)
    queue_rows: int = _setting(
        100_000,
        "most events that wait in memory; beyond that, senders are told to send again later",
        minimum=1,
    )
    poll_s: float = _setting(
        1.0, "how often the trainer and the gateway query their views, in seconds", minimum=0.01
    )
    lease_s: float = _setting(
        60.0,
        "seconds without a heartbeat after which another trainer takes over a claim",
        minimum=1,
    )
    artifacts: str = _setting("", "folder of published versions; empty: `artifacts` in the home")
    models: str = _setting(
        "headrace.toml",
        "file that declares which models learn, and how, and who is told of alerts",
    )
    cache: str = _setting(
        "",
        "folder of what can be made again, such as exported encoders; "
        "empty: `headrace` in the user's cache",
    )
    alert_hosts: str = _setting(
        "hooks.slack.com,events.pagerduty.com,events.eu.pagerduty.com",
        "hosts that alerts may be sent to: names, and for private addresses those, or networks",
    )
    kafka: str = _setting(
        "",
        "Kafka brokers that events are written to, host:port,...; empty: straight to the database",
    )
    kafka_prefix: str = _setting("headrace.", "prefix of the names of the Kafka topics")
    kafka_partitions: int = _setting(6, "partitions of a topic when Headrace creates it", minimum=1)
    kafka_replicas: int = _setting(1, "replicas of a topic when Headrace creates it", minimum=1)
    kafka_retention_h: int = _setting(
        336, "retention of a topic in hours when Headrace creates it", minimum=1
    )
    kafka_security: str = _setting(
        "PLAINTEXT",
        "security protocol of Kafka: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL",
        allowed=("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
    )
    kafka_mechanism: str = _setting(
        "SCRAM-SHA-512",
        "SASL mechanism: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512",
        allowed=("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"),
    )
    kafka_user: str = _setting("", "SASL user")
    kafka_password: str = _setting("", "SASL password", secret=True)
    kafka_ca: str = _setting("", "file with the CA certificates that sign those of the brokers")
    grafana_url: str = _setting("", "URL of a Grafana to push dashboards to")
    grafana_token: str = _setting("", "service account token of that Grafana", secret=True)

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
        """Read the settings from `environ` (default: the process's), then apply `overrides`.

        Raises:
            SettingError: an unknown or malformed ``HEADRACE_*`` variable.
        """
        known = {PREFIX + item.name.upper(): item for item in fields(cls)}
        values: dict[str, Any] = {}
        for variable, text in (os.environ if environ is None else environ).items():
            if not variable.startswith(PREFIX) or variable.startswith(IGNORED):
                continue
            if variable not in known:
                raise SettingError(
                    f"{variable}: no such setting; there are {', '.join(sorted(known))}"
                )
            values[known[variable].name] = _parse(variable, text, known[variable].default)
        values.update({name: value for name, value in overrides.items() if value is not None})
        for variable, item in known.items():
            if item.name in values:
                _check(variable, values[item.name], item)
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

    @property
    def cache_path(self) -> Path:
        """Folder of what can be made again."""
        if self.cache:
            return Path(self.cache)
        users = os.environ.get("XDG_CACHE_HOME")
        return (Path(users) if users else Path("~/.cache").expanduser()) / "headrace"

    @property
    def models_path(self) -> Path:
        """File with the declarations of models."""
        return Path(self.models)


def _parse(variable: str, text: str, default: Any) -> Any:
    """Return the text as the type of the default."""
    kind = type(default)
    try:
        return kind(text)
    except ValueError:
        words = {int: "a whole number", float: "a number"}
        raise SettingError(f"{variable}: must be {words[kind]}, got {text!r}") from None


def _check(variable: str, value: Any, item: Field[Any]) -> None:
    minimum, allowed = item.metadata["minimum"], item.metadata["allowed"]
    if minimum is not None and value < minimum:
        raise SettingError(f"{variable}: must be at least {minimum}, got {value}")
    if allowed and value not in allowed:
        raise SettingError(f"{variable}: must be one of {', '.join(allowed)}, got {value!r}")


def describe() -> list[tuple[str, str, str]]:
    """Return (variable, default, meaning) of every setting, for the docs and `--help`."""
    return [
        (PREFIX + item.name.upper(), str(item.default), item.metadata["doc"])
        for item in fields(Settings)
    ]


def project_path(name: str) -> Path:
    """Return a folder of the project (``sql``, ``dbt_project``, ...), in a checkout or a wheel.

    Raises:
        SettingError: there is no such folder.
    """
    package = Path(__file__).parent
    for candidate in (package.parent / name, package / "_project" / name):
        if candidate.is_dir():
            return candidate
    raise SettingError(f"the folder {name} of Headrace is missing beside {package}")
