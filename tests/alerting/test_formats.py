"""Messages fit what their receivers document, whatever an alert is called."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from standardwebhooks import Webhook, WebhookVerificationError

from headrace.alerting.formats import message
from headrace.alerting.notices import Notice
from headrace.alerting.receivers import Receiver, Target

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
TARGET = Target(httpx.URL("https://x"), SECRET)
TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"}
TEXT, TEXTS = {"type": "string"}, {"type": "object", "additionalProperties": {"type": "string"}}


def exactly(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object", "properties": properties, "required": [*properties],
        "additionalProperties": False,
    }  # fmt: skip


LABELS = {**TEXTS, "required": ["alertname", "model", "severity"],
          "additionalProperties": {"type": "string", "minLength": 1}}  # fmt: skip
STATUS = {"enum": ["firing", "resolved"]}
# As each documents it: hooks.slack.com; Events API v2; webhook_config; api/v2/openapi.yaml.
SCHEMAS = {
    "slack": exactly(text={"type": "string", "maxLength": 40_000, "minLength": 1}),
    "pagerduty": {
        "properties": {
            "routing_key": TEXT,
            "event_action": {"enum": ["trigger", "resolve"]},
            "dedup_key": {"type": "string", "maxLength": 255},
            "payload": {
                "properties": {
                    "summary": {"type": "string", "maxLength": 1024, "minLength": 1},
                    "source": {"type": "string", "minLength": 1},
                    "severity": {"enum": ["critical", "error", "warning", "info"]},
                    "timestamp": TIME,
                    "custom_details": {"type": "object"},
                },
                "required": ["summary", "source", "severity"],
            },
        },
        "required": ["routing_key", "event_action", "dedup_key"],
        "if": {"properties": {"event_action": {"const": "trigger"}}},
        "then": {"required": ["payload"]},
    },
    "webhook": exactly(
        version={"const": "4"}, groupKey=TEXT, truncatedAlerts={"const": 0}, status=STATUS,
        receiver={"const": "name"}, groupLabels=TEXTS, commonLabels=TEXTS, commonAnnotations=TEXTS,
        externalURL=TEXT,
        alerts={
            "type": "array", "minItems": 1,
            "items": exactly(
                status=STATUS, labels=LABELS, annotations=TEXTS, startsAt=TIME, endsAt=TIME,
                generatorURL=TEXT, fingerprint={"type": "string", "pattern": "^[0-9a-f]{16}$"},
            ),
        },
    ),
    "alertmanager": {
        "type": "array", "minItems": 1,
        "items": exactly(labels=LABELS, annotations=TEXTS, startsAt=TIME, endsAt=TIME),
    },
}  # fmt: skip
moments = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=600)
NOTICES = st.builds(
    Notice,
    incident=st.just("0f" * 16),
    model=names.filter(bool),
    alert=st.sampled_from(["errors", "metric_drop"]),
    subject=names,
    severity=st.sampled_from(["warning", "critical"]),
    value=st.floats(),
    threshold=st.floats(),
    since=moments,
    opened_at=moments,
    ended_at=st.none() | moments,
    times_told=st.integers(0, 9),
)


@pytest.mark.parametrize("kind", SCHEMAS)
@given(notice=NOTICES, now=moments)
def test_a_message_fits_what_is_documented(kind: Any, notice: Notice, now: datetime) -> None:
    sent = message("name", Receiver(kind=kind), TARGET, [notice], now)
    body = json.loads(sent.body)
    Draft202012Validator(SCHEMAS[kind]).validate(body)
    assert sent.headers["Content-Type"] == "application/json"
    over = notice.ended_at is not None
    if kind == "slack":
        # Neither a line nor a mention of everybody can be smuggled in.
        assert "\n" not in body["text"] and "<" not in body["text"]
        assert ("over after" in body["text"].partition(":")[2].partition(notice.model)[0]) == over
    elif kind == "pagerduty":
        assert (body["event_action"], body["routing_key"]) == (
            "resolve" if over else "trigger", SECRET,
        )  # fmt: skip
    elif kind == "webhook":
        assert body["status"] == body["alerts"][0]["status"] == ("resolved" if over else "firing")
        assert (body["alerts"][0]["endsAt"][:4] == "0001") == (not over)
    else:
        assert sent.headers["Authorization"] == f"Bearer {SECRET}"
        assert over or body[0]["endsAt"] > now.isoformat()
    if kind != "pagerduty":
        assert SECRET.encode() not in sent.body


@given(notice=NOTICES)
def test_a_signature_is_verified_by_the_library_of_the_standard(notice: Notice) -> None:
    sent = message("name", Receiver(kind="webhook"), TARGET, [notice], datetime.now(UTC))
    Webhook(SECRET).verify(sent.body, sent.headers)
    assert sent.headers["webhook-id"] == notice.message_id and "." not in notice.message_id
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(sent.body + b" ", sent.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(sent.body, {**sent.headers, "webhook-id": "another"})


def test_messages_of_one_alert_have_ids_of_their_own_and_one_that_is_sent_again_has_not() -> None:
    now = datetime.now(UTC)
    first = Notice("i", "m", "errors", "v1", "critical", 0.2, 0.05, now, now)
    again = Notice("i", "m", "errors", "v1", "critical", 0.3, 0.05, now, now, None, 1)
    ended = Notice("i", "m", "errors", "v1", "critical", 0.3, 0.05, now, now, now, 2)
    assert len({each.message_id for each in (first, again, ended)}) == 3
    changed = Notice("i", "m", "errors", "v1", "critical", 0.9, 0.05, now, now)
    assert first.message_id == changed.message_id


def test_without_a_secret_there_is_no_signature() -> None:
    now = datetime.now(UTC)
    notice = Notice("i", "m", "errors", "", "critical", 0.2, 0.05, now, now)
    unsigned = Target(httpx.URL("https://x"), "")
    sent = message("name", Receiver(kind="webhook"), unsigned, [notice], now)
    assert {"webhook-id", "webhook-timestamp"} < sent.headers.keys()
    assert "webhook-signature" not in sent.headers
    body = message("name", Receiver(kind="slack"), unsigned, [notice] * 3, now).body
    assert json.loads(body)["text"].count("\n") == 2
