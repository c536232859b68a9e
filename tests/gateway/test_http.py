"""The HTTP contract: what is answered, in which shape, after which commit."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from headrace.engine import Engine
from headrace.errors import SettingError
from headrace.events.contract import TOPICS
from headrace.gateway.server import serve
from headrace.settings import Settings
from tests.support.gateways import gateway_process, running_gateway

JSON = {"Content-Type": "application/json"}


def stored(engine: Engine, table: str, column: str) -> list[str]:
    rows = engine.rows(f"select {column} as id from events.{table} order by ingested_at, {column}")
    return [row["id"] for row in rows]


def test_one_event_of_each_topic_is_there_when_it_is_answered(
    http: httpx.Client, engine: Engine
) -> None:
    sent = {
        "/v1/inferences": ("request_id", {"model": "m", "request_id": "r"}),
        "/v1/feedback": ("feedback_id", {"request_id": "r", "feedback_id": "f", "label": "yes"}),
        "/v1/model-events": (
            "event_id",
            {"model": "m", "model_version": "1", "event": "trained", "event_id": "e"},
        ),
    }
    tables = ("inference", "feedback", "model_events")
    for table, (path, (name, event)) in zip(tables, sent.items(), strict=True):
        response = http.post(path, json=event)
        expected = {
            "accepted": 1, "duplicates": 0, "conflicts": 0, "conflicting": [], "rejected": [],
            "ids": [event[name]],
        }  # fmt: skip
        assert (response.status_code, response.json()) == (201, expected)
        assert stored(engine, table, name) == [event[name]]
        again = http.post(path, json=event)
        assert (again.status_code, again.json()) == (
            201,
            {**expected, "accepted": 0, "duplicates": 1},
        )
        assert stored(engine, table, name) == [event[name]]


def test_models_may_count_their_requests_each(http: httpx.Client, engine: Engine) -> None:
    first = {"model": "a", "request_id": "r1", "prediction": "yes"}
    assert http.post("/v1/inferences", json=first).status_code == 201
    again = {**first, "prediction": "no"}
    response = http.post("/v1/inferences", json=[{**first, "model": "b"}, again, first])
    body = response.json()
    assert response.status_code == 201
    assert (body["accepted"], body["duplicates"], body["conflicts"]) == (1, 1, 1)
    assert body["ids"] == ["r1", "r1", "r1"]
    said = {"request_id": "r1", "model": "b", "label": "no"}
    assert http.post("/v1/feedback", json=said).status_code == 201
    listed = engine.rows("select model, differing from headrace.conflicting_events")
    assert [tuple(row.values()) for row in listed] == [("a", "prediction")]
    labels = engine.rows("select model, label from headrace.labeled_examples")
    assert [tuple(row.values()) for row in labels] == [("b", "no")]


def test_the_id_of_another_models_event_is_refused_by_name(
    http: httpx.Client, engine: Engine
) -> None:
    first = {"model": "a", "model_version": "1", "event": "trained", "event_id": "e"}
    assert http.post("/v1/model-events", json=first).status_code == 201
    response = http.post("/v1/model-events", json={**first, "model": "b"})
    (refused,) = response.json()["rejected"]
    assert response.status_code == 422
    assert (refused["index"], refused["field"], refused["got"]) == (0, "event_id", "'e'")
    listed = engine.rows("select differing from headrace.conflicting_events")
    assert [row["differing"] for row in listed] == ["model"]


def test_the_same_id_with_other_content_is_a_conflict_that_a_view_lists(
    http: httpx.Client, engine: Engine
) -> None:
    first = {"model": "m", "request_id": "r", "input": "q", "event_time": "2024-05-01T12:00:00Z"}
    assert http.post("/v1/inferences", json=first).json()["accepted"] == 1
    untimed = {name: value for name, value in first.items() if name != "event_time"}
    batch = [
        {**first, "prediction": "yes", "score": 0.9},
        first,
        {**first, "event_time": "2024-05-01T14:00:00+02:00"},
        untimed,
        {**first, "event_time": "2024-05-01T12:00:01Z"},
        {"score": 7},
    ]
    body = http.post("/v1/inferences", json=batch).json()
    assert (body["accepted"], body["duplicates"], body["conflicts"]) == (0, 3, 2)
    assert body["conflicting"] == [
        {"index": 0, "id": "r", "fields": ["prediction", "score"]},
        {"index": 4, "id": "r", "fields": ["event_time"]},
    ]
    scores = [{**first, "request_id": "one", "score": number / 120} for number in range(120)]
    response = http.post("/v1/inferences", json=scores)
    assert response.status_code == 201
    assert (response.json()["accepted"], response.json()["conflicts"]) == (1, 119)
    said = {"request_id": "r", "feedback_id": "f"}
    http.post("/v1/feedback", json={**said, "label": "yes"})
    edited = http.post("/v1/feedback", json={**said, "label": "no"}).json()
    assert edited["conflicting"] == [{"index": 0, "id": "f", "fields": ["label"]}]
    assert http.post("/v1/feedback", json={**said, "label": "yes"}).json()["duplicates"] == 1
    listed = engine.rows(
        "select topic, event_id, model, count(*)::int as n from headrace.conflicting_events "
        "group by topic, event_id, model order by topic, event_id"
    )
    assert [tuple(row.values()) for row in listed] == [
        ("feedback", "f", "m", 1), ("inference", "one", "m", 119), ("inference", "r", "m", 2),
    ]  # fmt: skip
    assert engine.rows("select score from events.inference where request_id = 'one'") == [
        {"score": 0.0}
    ]


def test_metrics_tell_what_became_of_events_and_how_far_kafka_is_ahead(
    http: httpx.Client, engine: Engine
) -> None:
    events = [{"model": "m", "request_id": "a"}, {"model": "m", "request_id": "a"}, {"score": 7}]
    events.append({"model": "m", "request_id": "a", "score": 0.5})
    http.post("/v1/inferences", json=events)
    http.post("/v1/predict", json={"model": "nobody"})
    with engine.connect() as connection:
        connection.execute(
            "insert into control.consumed (topic, partition, next_offset) "
            "values ('inference', 0, 7), ('inference', 1, 7)"
        )
        connection.execute(
            "insert into control.topic_ends (topic, partition, first_offset, end_offset, looked_at)"
            "values ('inference', 0, 0, 10, now()), ('feedback', 0, 5, 9, now()),"
            "('feedback', 1, 0, 7, now() - interval '1 minute')"
        )
    response = http.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    told = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }
    for outcome in ("accepted", "duplicate", "conflict", "rejected"):
        assert told["headrace_events_total", *sorted(("inference", outcome))] == 1
    assert told["headrace_predictions_total", "404"] == 1
    assert told["headrace_ingest_behind_messages", "0", "inference"] == 3
    assert told["headrace_ingest_behind_messages", "0", "feedback"] == 4
    assert ("headrace_ingest_behind_messages", "1", "inference") not in told
    assert ("headrace_ingest_behind_messages", "1", "feedback") not in told
    assert 60 <= time.time() - told["headrace_ingest_looked_at_seconds", "1", "feedback"] < 600
    assert told["headrace_database_up",] == 1
    assert told["headrace_events_queued",] == 0


def test_metrics_tell_how_long_requests_with_events_took(http: httpx.Client) -> None:
    for label in ("yes", "no"):
        http.post("/v1/feedback", json=[{"request_id": "r", "label": label}, {"label": label}])
    http.post("/v1/inferences", json={"model": "m"})
    http.post("/v1/predict", json={"model": "nobody"})
    told = {
        (sample.name.removeprefix("headrace_"), sample.labels.get("topic")): sample.value
        for family in text_string_to_metric_families(http.get("/metrics").text)
        for sample in family.samples
        if not sample.name.endswith("_bucket")
    }
    for name in ("acknowledge", "log_wait", "write"):
        counts = [told[f"{name}_seconds_count", topic] for topic in TOPICS]
        assert counts == [1, 2, 0]
    for topic in TOPICS[:2]:
        whole, waited, written = (
            told[f"{name}_seconds_sum", topic] for name in ("acknowledge", "log_wait", "write")
        )
        assert waited > 0 and written > 0
        assert waited + written < whole


def test_an_id_is_made_where_none_came(http: httpx.Client, engine: Engine) -> None:
    made = http.post("/v1/inferences", json=[{"model": "m"}, {"model": "m"}]).json()["ids"]
    assert len(set(made)) == 2
    assert sorted(stored(engine, "inference", "request_id")) == sorted(made)


def test_the_good_of_a_batch_are_kept_and_the_bad_come_back_with_reasons(
    http: httpx.Client, engine: Engine
) -> None:
    batch = [
        {"model": "m", "request_id": "a"},
        {"model": "m", "score": 7},
        17,
        {"model": "m", "request_id": "b"},
        {"model": "m", "request_id": "a"},
    ]
    response = http.post("/v1/inferences", json=batch)
    body = response.json()
    assert response.status_code == 422
    assert (body["accepted"], body["duplicates"]) == (2, 1)
    assert body["ids"] == ["a", None, None, "b", "a"]
    assert [(each["index"], each["field"]) for each in body["rejected"]] == [(1, "score"), (2, "")]
    assert body["rejected"][0]["allowed"] == "a number in [0, 1]"
    assert body["rejected"][0]["got"] == "7.0"
    assert "2 of 5" in body["error"]["message"]
    assert stored(engine, "inference", "request_id") == ["a", "b"]
    assert sorted(stored(engine, "rejected", "field")) == ["", "score"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"nil", b"[1,]", b"[" * 100_000, b'[{"a": NaN}', b"{'a': 1}"]
)
def test_what_is_not_json_is_a_400(http: httpx.Client, engine: Engine, content: bytes) -> None:
    response = http.post("/v1/inferences", content=content, headers=JSON)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "bad_json"
    assert stored(engine, "inference", "request_id") == []


def test_too_large_is_a_413_and_the_next_request_is_served(http: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        yield from (b" " * (1 << 20) for _ in range(40))

    for content in (b" " * (40 << 20), chunks()):
        with httpx.Client(base_url=http.base_url) as client:
            try:
                response = client.post("/v1/feedback", content=content, headers=JSON)
            except httpx.WriteError:
                continue  # the gateway hung up on the rest of the body
            assert response.status_code == 413
            assert response.json()["error"]["type"] == "too_large"
    response = http.post("/v1/feedback", json=[1] * 10_001)
    assert response.status_code == 413
    assert http.get("/healthz").status_code == 200


def test_health_tells_of_a_batch_that_is_stuck(
    http: httpx.Client, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.gateway.app.STUCK_S", 0.5)
    healthy = http.get("/healthz")
    assert (healthy.status_code, healthy.json()) == (
        200, {"status": "ok", "queued": 0, "writing_s": 0.0}
    )  # fmt: skip
    with ThreadPoolExecutor(1) as pool:
        with engine.connect() as holder, holder.transaction():
            holder.execute("lock table locks.turn in exclusive mode")
            waiting = pool.submit(http.post, "/v1/inferences", json={"model": "m"})
            while http.get("/healthz").status_code == 200:
                assert not waiting.done()
                time.sleep(0.05)
            stuck = http.get("/healthz").json()
            assert stuck["status"] == "stuck" and stuck["writing_s"] >= 0.5
            assert "waited for its commit" in stuck["error"]["message"]
        assert waiting.result().status_code == 201
    assert http.get("/healthz").json()["status"] == "ok"


def test_every_error_has_the_same_shape(http: httpx.Client) -> None:
    answers = {
        404: http.get("/v1/nothing"),
        405: http.get("/v1/inferences"),
        400: http.post("/v1/predict", content=b"{", headers=JSON),
        422: http.post("/v1/predict", json={"model": ""}),
    }
    for status, response in answers.items():
        assert response.status_code == status
        error = response.json()["error"]
        assert error["type"] and error["message"] and "\n" not in error["message"]


# Of the examples, where there are no versions and no claims.
STATUS = {
    "/v1/predict": 404, "/v1/rank": 404, "/v1/review/claim": 200, "/v1/review/label": 422,
    "/v1/review/skip": 422, "/v1/review/undo": 422, "/v1/neighbours": 422,
}  # fmt: skip


def test_the_index_lists_every_endpoint_with_an_example_that_works(http: httpx.Client) -> None:
    endpoints = http.get("/").json()["endpoints"]
    assert len(endpoints) == 18
    for endpoint, description in endpoints.items():
        method, path = endpoint.split(" ")
        response = http.request(
            method, path.replace("{model}", "churn"), json=description.get("example")
        )
        wanted = STATUS.get(path, {"POST": 201}.get(method, 200))
        assert response.status_code == wanted, endpoint


def test_a_full_queue_is_a_429_that_says_when_to_come_back(
    engine: Engine, settings: Settings
) -> None:
    engine.settings = replace(engine.settings, queue_rows=5)
    with (
        running_gateway(engine, settings) as url,
        httpx.Client(base_url=url, timeout=60) as http,
        engine.connect(autocommit=False) as blocker,
        ThreadPoolExecutor(40) as pool,
    ):
        blocker.execute("lock table events.inference in exclusive mode")
        posts = [pool.submit(http.post, "/v1/inferences", json={"model": "m"}) for _ in range(40)]
        wait(posts, return_when=FIRST_COMPLETED)
        blocker.rollback()
        answers = [post.result() for post in posts]
        codes = {answer.status_code for answer in answers}
        assert codes == {201, 429}
        full = [answer for answer in answers if answer.status_code == 429]
        assert all(answer.headers["Retry-After"] == "1" for answer in full)
        assert http.post("/v1/inferences", json={"model": "m"}).status_code == 201
    assert len(stored(engine, "inference", "request_id")) == 40 - len(full) + 1


def test_policies_are_read_set_and_put_back(http: httpx.Client, engine: Engine) -> None:
    path = "/v1/models/team%2Fchurn/policies"
    before = http.get(path).json()["policies"]
    after = http.put(path, json={"psi_alert": 0.5, "cooldown": "2 days"}).json()
    assert after["policies"] == {**before, "psi_alert": "0.5", "cooldown": "2 days"}
    assert after["own"] == {"psi_alert": "0.5", "cooldown": "2 days"}
    assert engine.rows("select psi_alert from headrace.model_policies") == [{"psi_alert": 0.5}]
    assert http.put(path, json={"psi_alert": None, "cooldown": None}).json()["own"] == {}


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"min_new_labels": 5, "psi_limit": 1}, "psi_limit"),
        ({"min_new_labels": 5, "psi_alert": "many"}, "psi_alert"),
        ({"min_new_labels": 5, "cooldown": []}, "cooldown"),
        ([], ""),
    ],
)
def test_a_bad_policy_is_a_422_and_changes_nothing(
    http: httpx.Client, values: object, field: str
) -> None:
    response = http.put("/v1/models/m/policies", json=values)
    assert response.status_code == 422
    assert response.json()["error"]["field"] == field
    assert http.get("/v1/models/m/policies").json()["own"] == {}


def test_a_port_in_use_is_one_clear_line(settings: Settings) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(SettingError, match=f"HEADRACE_PORT: .*{port}"):
            serve(replace(settings, port=port))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(engine: Engine, settings: Settings, number: int) -> None:
    with gateway_process(settings) as (process, url):
        acknowledged: list[str] = []

        def send() -> None:
            with httpx.Client(base_url=url, timeout=60) as client:
                while True:
                    try:
                        response = client.post("/v1/inferences", json={"model": "m"})
                    except httpx.HTTPError:
                        return
                    assert response.status_code == 201
                    acknowledged.extend(response.json()["ids"])

        with ThreadPoolExecutor(4) as pool:
            senders = [pool.submit(send) for _ in range(4)]
            while len(acknowledged) < 50:
                assert process.poll() is None
                time.sleep(0.01)
            process.send_signal(number)
            for sender in senders:
                sender.result()
        assert process.wait(30) == 0
    assert set(acknowledged) <= set(stored(engine, "inference", "request_id"))


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_a_gateway_that_only_takes_events_never_loads_torch(
    settings: Settings,
) -> None:
    with gateway_process(settings) as (process, url):
        assert httpx.post(f"{url}/v1/inferences", json={"model": "m"}).status_code == 201
        assert httpx.post(f"{url}/v1/predict", json={"model": "m"}).status_code == 404
        assert "torch" not in Path(f"/proc/{process.pid}/maps").read_text()
