"""Messages as each kind of receiver reads them.

Slack: incoming webhooks. PagerDuty: Events API v2. Webhook: Alertmanager's webhook payload, version
4, signed as Standard Webhooks 1.0.0 says. Alertmanager: ``POST /api/v2/alerts``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from headrace.alerting.notices import Notice
from headrace.alerting.receivers import Receiver, Target, signing_key

# How many notices one message may hold, by the kind of the receiver.
MOST = {"slack": 20, "pagerduty": 1, "webhook": 1, "alertmanager": 100}
# An Alertmanager takes an alert for over if it hears nothing of it for so long.
STANDS = timedelta(minutes=5)
_SUMMARY = 1024  # characters, as PagerDuty allows
_NEVER = "0001-01-01T00:00:00Z"  # Alertmanager's time of an end that is not known


@dataclass(frozen=True)
class Message:
    """The body of one request and its headers, both with secrets."""

    body: bytes = field(repr=False)
    headers: dict[str, str] = field(repr=False)


def message(
    name: str, receiver: Receiver, target: Target, notices: Sequence[Notice], now: datetime
) -> Message:
    """Return the message that tells a receiver of notices, at most MOST of its kind."""
    body = json.dumps(_BODIES[receiver.kind](name, target, notices, now)).encode()
    headers = {"Content-Type": "application/json"}
    if receiver.kind == "webhook":
        headers |= signed(notices[0].message_id, now, body, target.secret)
    elif receiver.kind == "alertmanager" and target.secret:
        headers["Authorization"] = f"Bearer {target.secret}"
    return Message(body, headers)


def trial_notices(now: datetime) -> tuple[Notice, Notice]:
    """Return an alert that says it is a test, and its end."""
    fires = Notice(
        incident=f"test-{now:%Y%m%dT%H%M%S}", model="headrace", alert="test", subject="",
        severity="warning", value=0.0, threshold=0.0, since=now, opened_at=now,
    )  # fmt: skip
    return fires, replace(fires, ended_at=now)


def signed(message_id: str, now: datetime, body: bytes, secret: str) -> dict[str, str]:
    """Return the headers of Standard Webhooks; without a secret there is no signature."""
    stamp = str(int(now.timestamp()))
    headers = {"webhook-id": message_id, "webhook-timestamp": stamp}
    if key := signing_key(secret):
        digest = hmac.digest(key, f"{message_id}.{stamp}.".encode() + body, hashlib.sha256)
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers


def summary(notice: Notice) -> str:
    """Say on one line what is wrong."""
    of = f" of {notice.subject}" if notice.subject else ""
    text = f"{notice.model}: {notice.alert}{of}"
    numbers = f": {notice.value:.4g}, threshold {notice.threshold:.4g}"
    return " ".join(text.split())[: _SUMMARY - len(numbers)] + numbers


def _slack(_: str, __: Target, notices: Sequence[Notice], ___: datetime) -> dict[str, Any]:
    return {"text": "\n".join(map(_slack_line, notices))}


def _slack_line(notice: Notice) -> str:
    said = summary(notice).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    if notice.ended_at:
        lasted = timedelta(seconds=int((notice.ended_at - notice.opened_at).total_seconds()))
        return f":white_check_mark: over after {lasted}: {said}"
    sign = ":red_circle:" if notice.severity == "critical" else ":warning:"
    again = ", still" if notice.times_told else ""
    return f"{sign} *{notice.severity}*{again}: {said}, since {_utc(notice.since)}"


def _pagerduty(_: str, target: Target, notices: Sequence[Notice], __: datetime) -> dict[str, Any]:
    (notice,) = notices
    event = {
        "routing_key": target.secret,
        "event_action": "resolve" if notice.ended_at else "trigger",
        "dedup_key": notice.incident,
    }
    if notice.ended_at:
        return event
    return {
        **event,
        "client": "Headrace",
        "payload": {
            "summary": summary(notice),
            "source": notice.model,
            "severity": notice.severity,
            "timestamp": _utc(notice.opened_at),
            "component": notice.model,
            "class": notice.alert,
            "custom_details": {"subject": notice.subject, **_annotations(notice)},
        },
    }


def _webhook(name: str, _: Target, notices: Sequence[Notice], __: datetime) -> dict[str, Any]:
    (notice,) = notices
    status = "resolved" if notice.ended_at else "firing"
    labels, annotations = _labels(notice), _annotations(notice)
    alert = {
        "status": status,
        "labels": labels,
        "annotations": annotations,
        "startsAt": _utc(notice.opened_at),
        "endsAt": _utc(notice.ended_at) if notice.ended_at else _NEVER,
        "generatorURL": "",
        "fingerprint": hashlib.sha256(json.dumps(sorted(labels.items())).encode()).hexdigest()[:16],
    }
    return {
        "version": "4",
        "groupKey": notice.incident,
        "truncatedAlerts": 0,
        "status": status,
        "receiver": name,
        "groupLabels": labels,
        "commonLabels": labels,
        "commonAnnotations": annotations,
        "externalURL": "",
        "alerts": [alert],
    }


def _alertmanager(
    _: str, __: Target, notices: Sequence[Notice], now: datetime
) -> list[dict[str, Any]]:
    return [
        {
            "labels": _labels(notice),
            "annotations": _annotations(notice),
            "startsAt": _utc(notice.opened_at),
            "endsAt": _utc(notice.ended_at or now + STANDS),
        }
        for notice in notices
    ]


_BODIES: dict[str, Callable[[str, Target, Sequence[Notice], datetime], Any]] = {
    "slack": _slack,
    "pagerduty": _pagerduty,
    "webhook": _webhook,
    "alertmanager": _alertmanager,
}


def _labels(notice: Notice) -> dict[str, str]:
    """What identifies an alert; a label without a value is none for Alertmanager."""
    labels = {
        "alertname": notice.alert,
        "model": notice.model,
        "subject": notice.subject,
        "severity": notice.severity,
    }
    return {name: value for name, value in labels.items() if value}


def _annotations(notice: Notice) -> dict[str, str]:
    return {
        "summary": summary(notice),
        "value": f"{notice.value:.6g}",
        "threshold": f"{notice.threshold:.6g}",
        "since": _utc(notice.since),
    }


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
