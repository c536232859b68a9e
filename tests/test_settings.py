"""A wrong setting is an error at start that names it, what is allowed, and the value."""

from __future__ import annotations

import pytest

from headrace.errors import SettingError
from headrace.settings import Settings

RISINGWAVE = {
    "HEADRACE_ENGINE": "risingwave",
    "HEADRACE_DSN": "host=127.0.0.1 port=4566",
    "HEADRACE_KAFKA": "127.0.0.1:9092",
    "HEADRACE_REGISTRY_DSN": "host=127.0.0.1 port=5432",
}


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("HEADRACE_PROT", "8321", "HEADRACE_PROT: no such setting; there are .*HEADRACE_PORT"),
        ("HEADRACE_PORT", "http", "HEADRACE_PORT: must be a whole number, got 'http'"),
        ("HEADRACE_PORT", "-1", "HEADRACE_PORT: must be at least 0, got -1"),
        ("HEADRACE_ENGINE", "mysql", "HEADRACE_ENGINE: must be one of postgres, .*got 'mysql'"),
        ("HEADRACE_KAFKA_SECURITY", "TLS", "KAFKA_SECURITY: must be one of PLAINTEXT, .*got 'TLS'"),
    ],
)
def test_a_wrong_setting_is_named(variable: str, value: str, reason: str) -> None:
    with pytest.raises(SettingError, match=reason):
        Settings.load({variable: value})


@pytest.mark.parametrize("missing", ["HEADRACE_DSN", "HEADRACE_KAFKA", "HEADRACE_REGISTRY_DSN"])
def test_risingwave_needs_what_it_needs(missing: str) -> None:
    assert Settings.load(RISINGWAVE).engine == "risingwave"
    environ = {name: value for name, value in RISINGWAVE.items() if name != missing}
    with pytest.raises(SettingError, match=f"{missing}: must be set with HEADRACE_ENGINE"):
        Settings.load(environ)


def test_a_secret_is_not_shown() -> None:
    shown = repr(Settings.load({"HEADRACE_DSN": "password=secret", "OTHER": "x"}))
    assert "secret" not in shown
