"""`[alerts.NAME]` of headrace.toml: what may stand there; a secret is never quoted."""

from __future__ import annotations

import base64
import tomllib
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from headrace.alerting.receivers import Receiver, read_receivers, target
from headrace.declared import read_declared, toml_schema
from headrace.errors import SettingError

GOOD = """
[alerts.team]
kind = "slack"
url_env = "SLACK_URL"
models = ["churn"]
[alerts.oncall]
kind = "pagerduty"
secret_env = "PAGERDUTY_KEY"
severities = ["critical"]
repeat_s = 3600
[alerts.ours]
kind = "webhook"
url = "https://alerts.example.org/headrace"
secret_env = "WEBHOOK_SECRET"
[alerts.am]
kind = "alertmanager"
url = "http://alertmanager:9093/api/v2/alerts"
"""
SIGNING = "whsec_" + base64.b64encode(bytes(24)).decode()
SECRET = "xoxb-0123456789"


def read(tmp_path: Path, text: str) -> dict[str, Receiver]:
    file = tmp_path / "headrace.toml"
    file.write_text(text)
    assert read_declared(file) == {}
    return read_receivers(file)


def test_receivers_are_read_and_know_what_they_want(tmp_path: Path) -> None:
    receivers = read(tmp_path, GOOD)
    assert [*receivers] == ["team", "oncall", "ours", "am"]
    team, oncall = receivers["team"], receivers["oncall"]
    assert team.wants("churn", "warning") and not team.wants("other", "critical")
    assert oncall.wants("other", "critical") and not oncall.wants("churn", "warning")
    assert (oncall.repeat_s, team.repeat_s) == (3600, 4 * 3600)
    assert read_receivers(tmp_path / "none.toml") == {}
    Draft202012Validator(toml_schema()).validate(tomllib.loads(GOOD))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("alert = 1", "'alert' is no key; did you mean 'alerts'?"),
        ("alerts = 1", "alerts: must be tables"),
        ("[alerts]\na = '{secret}'", "alerts.a: must be a table"),
        ("[alerts.a]\nkind = 'slak'", "kind: must be one of slack, pagerduty, webhook, alertm"),
        ("[alerts.a]\nkind = 'slack'\nurl_evn = 'X'", "'url_evn' is no key; did you mean 'url_"),
        ("[alerts.a]\nkind = 'slack'\nurl = 'https://x/{secret}'", "slack has url_env"),
        ("[alerts.a]\nkind = 'slack'\nurl_env = '{secret}'", "name of an environment variable"),
        ("[alerts.a]\nkind = 'slack'\nurl_env = ['{secret}']", "url_env: must be a text"),
        ("[alerts.a]\nkind = 'slack'\nurl_env = 'HEADRACE_X'", "must not begin with HEADRACE_"),
        ("[alerts.a]\nkind = 'pagerduty'", "pagerduty needs secret_env"),
        ("[alerts.a]\nkind = 'webhook'", "webhook needs url or url_env"),
        ("[alerts.a]\nkind = 'webhook'\nurl = 'https://u:{secret}@x'", "without user and password"),
        ("[alerts.a]\nkind = 'webhook'\nurl = 'file:///{secret}'", "must be an address http(s)"),
        (
            "[alerts.a]\nkind = 'webhook'\nurl = 'https://x'\nrepeat_s = 1",
            "alerts.a.repeat_s: must be a number >= 60.0, got 1",
        ),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "headrace.toml"
    file.write_text(text.replace("{secret}", SECRET))
    with pytest.raises(SettingError) as caught:
        read_receivers(file)
    assert said in str(caught.value)
    assert SECRET not in str(caught.value) and "\n" not in str(caught.value)


def test_secrets_come_from_the_environment_and_are_not_shown(tmp_path: Path) -> None:
    receivers = read(tmp_path, GOOD)
    environ = {
        "SLACK_URL": f"https://hooks.slack.com/services/{SECRET}",
        "PAGERDUTY_KEY": SECRET,
        "WEBHOOK_SECRET": SIGNING,
    }
    found = {name: target(name, one, environ) for name, one in receivers.items()}
    assert str(found["team"].url) == environ["SLACK_URL"]
    assert (found["oncall"].url.host, found["oncall"].secret) == ("events.pagerduty.com", SECRET)
    assert (found["ours"].secret, found["am"].secret) == (SIGNING, "")
    assert SECRET not in repr(found) and SIGNING not in repr(found)
    for name, spoilt in (
        ("team", {}),
        ("team", {"SLACK_URL": SECRET}),
        ("team", {"SLACK_URL": f"https://{SECRET}:x@hooks.slack.com"}),
        ("ours", {"WEBHOOK_SECRET": SECRET}),
        ("ours", {"WEBHOOK_SECRET": SIGNING[:-8]}),
    ):
        with pytest.raises(SettingError, match=f"^alerts.{name}") as caught:
            target(name, receivers[name], spoilt)
        assert SECRET not in str(caught.value) and SIGNING[:-8] not in str(caught.value)
