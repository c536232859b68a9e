"""The light client against a real gateway."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from headrace import Client
from headrace.engine import Engine
from headrace.errors import ContractError, DeliveryError
from headrace.settings import Settings
from tests.support.gateways import running_gateway

NOWHERE = "http://127.0.0.1:9"  # the discard port: nothing answers


def ids(engine: Engine, topic: str, column: str) -> list[str]:
    rows = engine.rows(f"select {column} as id from events.{topic} order by {column}")
    return [row["id"] for row in rows]


def test_what_was_called_is_stored_when_the_block_is_left(
    engine: Engine, settings: Settings
) -> None:
    with running_gateway(engine, settings) as url:
        with Client(url) as client:
            sent = [client.inference(model="m", score=0.5) for _ in range(2_500)]
            given = client.feedback(sent[0], label="yes")
        assert ids(engine, "inference", "request_id") == sorted(sent)
        assert ids(engine, "feedback", "feedback_id") == [given]
        with pytest.raises(DeliveryError, match="closed"):
            client.inference(model="m")


def test_a_flush_waits_for_the_commit(engine: Engine, settings: Settings) -> None:
    with running_gateway(engine, settings) as url, Client(url, linger_s=60) as client:
        for number in range(3):
            client.inference(model="m")
            assert client.flush(60)
            assert len(ids(engine, "inference", "request_id")) == number + 1


def test_a_bad_event_raises_at_the_call_and_sends_nothing() -> None:
    client = Client(NOWHERE)
    with pytest.raises(ContractError, match="score"):
        client.inference(model="m", score=2)
    with pytest.raises(ContractError, match="label"):
        client.feedback("r")
    with pytest.raises(ContractError, match="colour"):
        client.inference(model="m", colour="red")
    with pytest.raises(ContractError):
        client.inference(model="m", input={None: 1})
    assert client.flush(0)
    client.close()


def test_events_outlive_a_restart_of_the_gateway_and_count_once(
    engine: Engine, settings: Settings
) -> None:
    stopping = threading.Event()
    sent: list[str] = []
    errors: list[DeliveryError] = []

    def send(client: Client) -> None:
        while not stopping.is_set():
            sent.append(client.inference(model="m"))
            time.sleep(0.001)

    with running_gateway(engine, settings) as url:
        port = int(url.rsplit(":", 1)[1])
        client = Client(url, linger_s=0.01, on_error=errors.append)
        sender = threading.Thread(target=send, args=(client,))
        sender.start()
        time.sleep(0.3)
    for _ in range(2):
        time.sleep(0.2)
        with running_gateway(engine, replace(settings, port=port)):
            time.sleep(0.5)
    with running_gateway(engine, replace(settings, port=port)):
        stopping.set()
        sender.join()
        client.close()
    assert errors == []
    assert ids(engine, "inference", "request_id") == sorted(sent)


def test_what_the_gateway_refuses_is_reported(engine: Engine, settings: Settings) -> None:
    errors: list[DeliveryError] = []
    with running_gateway(engine, settings) as url:
        with Client(url + "/elsewhere", on_error=errors.append) as client:
            client.inference(model="m")
        assert len(errors) == 1
        assert "404" in str(errors[0])


def test_an_id_with_other_content_is_reported(engine: Engine, settings: Settings) -> None:
    errors: list[DeliveryError] = []
    with (
        running_gateway(engine, settings) as url,
        Client(url, on_error=errors.append) as client,
    ):
        for score in (0.5, 0.5, 0.25):
            client.inference(
                model="m", request_id="r", score=score, event_time="2024-05-01T12:00:00Z"
            )
    assert len(errors) == 1
    assert "1 of 3 inference events were kept out" in str(errors[0])
    assert "score of 'r'" in str(errors[0])


def test_what_could_not_be_delivered_is_reported() -> None:
    errors: list[DeliveryError] = []
    client = Client(NOWHERE, linger_s=0, on_error=errors.append)
    client.inference(model="m")
    assert not client.flush(0.2)
    client.close(timeout_s=0.1)
    assert "1 inference events were not delivered" in str(errors[0])


def test_a_full_queue_raises_or_blocks() -> None:
    raising = Client(NOWHERE, max_queue=3, linger_s=60, on_full="raise")
    with pytest.raises(DeliveryError, match="max_queue"):
        for _ in range(5_000):
            raising.inference(model="m")
    raising.close(timeout_s=0)

    blocking = Client(NOWHERE, max_queue=3, linger_s=60)
    failed: list[DeliveryError] = []

    def fill() -> None:
        try:
            for _ in range(5_000):
                blocking.inference(model="m")
        except DeliveryError as error:
            failed.append(error)

    filler = threading.Thread(target=fill)
    filler.start()
    filler.join(0.3)
    assert filler.is_alive()
    blocking.close(timeout_s=0)
    filler.join()
    assert len(failed) == 1


def test_a_prediction_that_cannot_be_made_says_why(engine: Engine, settings: Settings) -> None:
    with running_gateway(engine, settings) as url, Client(url) as client:
        with pytest.raises(DeliveryError, match="no version of 'm' serves"):
            client.predict("m", text="x")
        with pytest.raises(ContractError, match="features"):
            client.predict("m", features=[1])
    with Client(NOWHERE) as client, pytest.raises(DeliveryError, match="cannot reach"):
        client.predict("m")


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="on_full"):
        Client(NOWHERE, on_full="drop")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_queue"):
        Client(NOWHERE, max_queue=0)


def test_an_exit_delivers_and_only_light_modules_are_loaded(
    engine: Engine, settings: Settings
) -> None:
    program = (
        "import sys; from headrace import Client; client = Client(sys.argv[1]); "
        "client.inference(model='m', request_id='last words'); "
        "heavy = {'torch', 'feast', 'psycopg', 'starlette', 'sqlalchemy'} & set(sys.modules); "
        "print(sorted(heavy))"
    )
    with running_gateway(engine, settings) as url:
        done = subprocess.run(
            [sys.executable, "-c", program, url],
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout.strip() == "[]"
    assert ids(engine, "inference", "request_id") == ["last words"]
