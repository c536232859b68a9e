"""Messages that keep the contract of events, and many that break it in one place."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, cast

from headrace.events.contract import IDS, TOPICS, Topic
from headrace.events.rows import COLUMNS, REJECTED

# When a message was sent.
SENT = datetime(2026, 5, 1, 12, 0, 0, 250_000, tzinfo=UTC)
VALID: dict[str, dict[str, Any]] = {
    "inference": {
        "model": "m", "model_version": "v1", "request_id": "r", "variant": "champion",
        "event_time": "2026-05-01T11:00:00Z", "features": {"age": 31, "vip": True, "x": None},
        "feature_ages": {"user_features": 2.5, "item_features": -3, "segment_features": None},
        "endpoint": "e", "segment": "s", "user_id": "u", "session_id": "n", "item_id": "i",
        "input": {"text": "hi"}, "output": [1, "two"], "prediction": "yes", "score": 0.25,
        "probabilities": {"yes": 0.25, "Nö": 0, "1": 1}, "propensity": 0.5,
        "target_propensity": 0.25, "position": 3,
        "latency_ms": 12.5, "error": None,
    },
    "feedback": {
        "feedback_id": "f", "request_id": "r", "event_time": "2026-05-01T11:00:00+02:00",
        "model": "m", "item_id": "i",
        "kind": "label", "label": "yes", "value": 2, "source": "human", "user_id": "u",
        "metadata": {"a": [1, {"b": None}]},
    },
    "model_events": {
        "event_id": "e", "model": "m", "model_version": "v", "event": "canary", "traffic": 0.1,
        "event_time": "2026-05-01 11:00:00.123", "run_id": "r", "trigger_id": "t",
        "dataset_id": "d", "parent_version": "p", "artifact_uri": "a", "metrics": {"auc": 0.9},
        "reason": "why",
    },
}  # fmt: skip
DROP = object()
# What may stand in any field; the contract says which of them do.
STRANGE: list[Any] = [
    DROP, None, "", "x", "0", "true", 0, 1, -1, 0.0, -0.0, 0.5, 1.0, 1.5, 3, 1e-7, 1e300, 1.1e300,
    -1.1e300, 2**40, True, False, [], {}, [1], {"a": 1}, {"a": {"b": 1}}, {"": 1}, {"a": [1]},
    "x" * 512, "x" * 513, "𠀀" * 128, "𠀀" * 128 + "x", "ü✓ 日本", 'quo"te\\',
    "2026-05-01T11:00:00Z",
]  # fmt: skip
TIMES = [
    "2026-05-01T12:00:00Z", "2026-05-01t12:00:00z", "2026-05-01 12:00:00", "2026-05-01_12:00:00",
    "2026-05-01T12:00", "2026-05-01", "2026-05-01T12:00:00.5", "2026-05-01T12:00:00.123456Z",
    "2026-05-01T12:00:00.", "2026-05-01T12:00:00,5", "2026-05-01T12:00:00.1234561Z",
    "2026-05-01T12:00:00+02:00", "2026-05-01T12:00:00+0200", "2026-05-01T12:00:00-12:30",
    "2026-05-01T12:00:00+02", "2026-05-01T12:00:00 +02:00", "2026-05-01T12:00:00-00:00",
    "2026-05-01T12:00:00+24:00", "2026-05-01T12:00:00+12:60", "2026-05-01T24:00:00",
    "2026-05-01T11:59:60", "2026-02-30T00:00:00", "2024-02-29T00:00:00Z", "0000-01-01T00:00:00",
    "0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00", "1969-12-31T23:59:59Z",
    "1970-01-01T00:00:00Z", "1970-01-01T00:00:00+01:00", "20260501T120000Z",
    " 2026-05-01T12:00:00Z", "2026-05-01T12:00:00Z ", "2026-5-1T12:00:00Z", "now", "infinity",
    "2026-05-01T12:05:00.25Z", "2026-05-01T12:05:00.250001Z", "2026-05-01T12:04:59.9Z",
    "٢026-05-01T12:00:00Z", "2026-05-01T12:00:001Z",
]  # fmt: skip
BYTES: list[bytes | None] = [
    None, b"", b" ", b"null", b"1", b'"x"', b"[]", b"{}", b"{", b"nonsense", b"\xff\xfe", b"NaN",
    b'{"a": 1,}', b'{"a": NaN}', b'{"model": 1e400}', b"\xef\xbb\xbf{}", b'{"a": "\\ud800"}',
    b'{"a": "\x01"}', b'{"model": "a\\u0000b"}', b'{"model": "a\\\\u0000b"}', b'"\\u0000"',
    b'{"model": "m", "features": {"a": "\\\\\\u0000"}}', b'{"a": 01}', b"\n{ }\t", b'{"a":1}{}',
    b'{"model": "m", "model": "n", "request_id": "r"}', b'{"model": "\\ud83d\\ude00"}',
    b'{"model": "m", "score": -Infinity}', b'{"request_id": "r", "value": ' + b"9" * 5_000 + b"}",
]  # fmt: skip
# Texts of labels and predictions: numbers, booleans, ids that look like numbers, blanks.
SPELLINGS = [
    "1.0", "-0.0", "-0", "0.0", "1e3", "1E+3", "-2.50", "1e-6", "1.0e-5", "12e99", "1e100",
    "1.000000000000000000e+00", "0.30000000000000004", "123456789012345", "1234567890123456",
    "1234567890123456.0", "12345678901234567890", "007", "00", "-01", "1.", ".5", "+1", "1_000",
    "1,5", "0x10", "e3", "1e", "1e+", "- 1", "NaN", "inf", "٣", "١.٠", "true", "True", "TRUE",
    "fAlSe", "t", "yes", " true ", "\t1.0\r\n", "fraud ", "\u00a0fraud\u3000", "\u2003x", "a b",
    "\v\f1", " ", "\u00a0", "\n", "x\n1.0", "Straße", "TRUÉ",
]  # fmt: skip
MANY: list[tuple[str, dict[str, Any]]] = [
    ("inference", {"features": {f"f{i}": i for i in range(1000)}}),
    ("inference", {"features": {f"f{i}": i for i in range(1001)}}),
    ("inference", {"features": {"n" * 256: 1}}),
    ("inference", {"features": {"n" * 257: 1}}),
    ("inference", {"features": {"𠀀" * 256: 1}}),
    ("inference", {"features": {"𠀀" * 257: 1}}),
    ("inference", {"features": {"n\n" * 129: 1}}),
    ("inference", {"features": {'q"u.o': [1]}}),
    ("inference", {"features": {"a": 1, "ä ✓": -2e300}}),
    ("inference", {"features": {"a": 1e300, "b": None, "c": "1e301", "d": True}}),
    ("inference", {"error": "x" * 100_000}),
    ("inference", {"error": "x" * 100_001}),
    ("inference", {"input": "x" * 100_000}),
    ("inference", {"input": "x" * 100_001}),
    ("inference", {"output": "x" * 100_001}),
    ("model_events", {"reason": "x" * 100_001}),
    ("model_events", {"artifact_uri": "x" * 2_000}),
    ("model_events", {"artifact_uri": "x" * 2_001}),
    ("model_events", {"trigger_id": "x" * 1_024}),
    ("model_events", {"trigger_id": "x" * 1_025}),
    ("inference", {"shadow_of": "r0"}),
    ("inference", {"shadow_of": "r0", "variant": "shadow"}),
    ("inference", {"shadow_of": "", "variant": None}),
    ("inference", {"modle": "typo"}),
    ("inference", {'quo"te\\': 1}),
    ("inference", {"": 1}),
    *(
        ("feedback", {"kind": kind, "label": label, "value": value, "rejected_request_id": lost})
        for kind in [
            "rating", "thumbs", "click", "dwell", "purchase", "conversion", "correction", "label",
            "preference", "report", "comment", "retraction", "like",
        ]
        for label in (None, "", "no", 0, False)
        for value in (None, 0, True)
        for lost in (None, "", "r0")
    ),
    *(
        (topic, {name: value})
        for topic, name in [("inference", "prediction"), ("feedback", "label")]
        for value in [
            3.0, 3, -7, 0.1, 100.5, 999999999999999.0, 1e14, 123456.789, "3.0", -0.0, 1e15, -1e15,
            1e16, 1e17, 1e18, 9e18, 1e19, 1.5e20, 1e300, 1000000000000000.5, 0.0001, 0.00001,
            -0.000012345, 0.0000099, 1e-6, 1.25e-7, 1e-300, 5e-324, 10**15, 2**53 + 1, 10**18,
            2**63 - 1, -(2**63), 2**63, 2**64, -(2**63) - 1, 12345678901234567890123,
            *SPELLINGS,
        ]
    ),
    *(
        ("inference", {"probabilities": given})
        for given in [
            {"a": 0.5, "b": 1.5}, {"a": -1e-9}, {"a": "0.5"}, {"a": True}, {"a": None},
            {"a": {}}, {"n" * 256: 1}, {"n" * 257: 1}, {"": 1}, {"true": 1, "True": 0},
            {f"c{i}": 0.001 for i in range(1000)}, {f"c{i}": 0 for i in range(1001)},
        ]
    ),
    *(
        ("inference", {"feature_ages": given})
        for given in [
            {}, {"a": None}, {"a": -1e300, "b": 1e300}, {"a": 1.1e300}, {"a": "1"}, {"a": True},
            {"a": {}}, {"a": [1]}, {"n" * 256: 1}, {"n" * 257: 1}, {"": 1},
            {f"v{i}": i for i in range(1000)}, {f"v{i}": i for i in range(1001)},
        ]
    ),
    *(
        ("model_events", {"event": event, "traffic": traffic})
        for event in ["canary", "trained", "promoted", "rolled_back", "born", ""]
        for traffic in [None, 0, 0.5]
    ),
    *(
        ("feedback", {"kind": kind, "label": None, "value": value, "retracts": retracted})
        for kind in ("retraction", "label", "report", None)
        for value in (1, None)
        for retracted in (None, "", "f0", "x" * 513)
    ),
]  # fmt: skip


_ids = itertools.count()


def said(topic: str, changed: dict[str, Any]) -> bytes:
    """A message of its own id, unless that is what is changed."""
    payload = {**VALID[topic], IDS[cast(Topic, topic)]: f"id{next(_ids)}", **changed}
    return json.dumps({k: v for k, v in payload.items() if v is not DROP}).encode()


def changes() -> Iterator[tuple[str, bytes | None]]:
    """Messages that differ from a good one in one place, and some that are none."""
    for topic in TOPICS:
        yield topic, said(topic, {})
        yield topic, said(topic, dict.fromkeys(VALID[topic], DROP))
        for name in COLUMNS[topic]:
            for value in STRANGE:
                yield topic, said(topic, {name: value})
        for time in TIMES:
            yield topic, said(topic, {"event_time": time})
        for sent in BYTES:
            yield topic, sent
    for name, changed in MANY:
        yield name, said(name, changed)
    letter = {"topic": "feedback", "field": "label", "reason": "why", "payload": "{}"}
    yield REJECTED, json.dumps(letter).encode()
    for name in letter:
        for value in (DROP, None, 1, "", "x", {}, "a\x00b"):
            spoilt = {**letter, name: value}
            text = json.dumps({k: v for k, v in spoilt.items() if v is not DROP})
            yield REJECTED, text.encode()
    yield REJECTED, json.dumps({**letter, "more": 1}).encode()
    for sent in BYTES:
        yield REJECTED, sent
