"""Each mistake in how brokers are reached has a line of its own that names the setting."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kafka.admin import KafkaAdminClient
from kafka.errors import TopicAuthorizationFailedError

from headrace.cli import main
from headrace.engine import Engine
from headrace.errors import BrokerError, SettingError
from headrace.events.kafka.brokers import retry_without_brokers, warn_without_brokers
from headrace.events.kafka.connection import client_options
from headrace.events.kafka.diagnosis import diagnose
from headrace.machine import free_port
from headrace.settings import Settings
from tests.support.brokers import REAL, make_topics
from tests.support.kafka_listener import Authority, Listener

PASSWORD = "s3cret-of-ours"
USERS = {"app": PASSWORD}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority") / "ours")


def to(listener: Listener, security: str = "PLAINTEXT", **others: Any) -> Settings:
    login = {"kafka_user": "app", "kafka_password": PASSWORD} if "SASL" in security else {}
    return Settings(
        kafka=f"127.0.0.1:{listener.port}", kafka_security=security, **{**login, **others}
    )


def why(settings: Settings) -> str:
    """Return the reason, which is soon there and holds no password."""
    began = time.monotonic()
    line = diagnose(settings)
    assert line is not None
    assert time.monotonic() - began < 30
    assert "\n" not in line and not (settings.kafka_password and settings.kafka_password in line)
    return line.removeprefix(f"Kafka at {settings.kafka} cannot be used: ")


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
@pytest.mark.parametrize("secure", [False, True])
def test_a_login(mechanism: str, secure: bool, authority: Authority) -> None:
    context = authority.context() if secure else None
    security = "SASL_SSL" if secure else "SASL_PLAINTEXT"
    with Listener(USERS, (mechanism,), context) as listener:
        right = to(
            listener, security, kafka_mechanism=mechanism,
            kafka_ca=str(authority.file) if secure else "",
        )  # fmt: skip
        assert diagnose(right) is None
        for wrong in ({"kafka_password": "wr0ng"}, {"kafka_user": "nobody"}):
            line = why(replace(right, **wrong))  # type: ignore[arg-type]
            user = wrong.get("kafka_user", "app")
            assert line.startswith(f"user '{user}' is not let in (Authentication failed")
            assert "correct HEADRACE_KAFKA_USER or HEADRACE_KAFKA_PASSWORD" in line


def test_the_brokers_of_the_tests(kafka_engine: Engine) -> None:
    right = kafka_engine.settings
    assert diagnose(right) is None
    for security in {"PLAINTEXT", "SASL_PLAINTEXT"} - {right.kafka_security}:
        line = why(replace(right, kafka_security=security, kafka_user="u", kafka_password="p"))
        assert not REAL or f"set HEADRACE_KAFKA_SECURITY={right.kafka_security}" in line
    assert f"set HEADRACE_KAFKA_SECURITY={right.kafka_security}" in why(
        replace(right, kafka_security="SSL" if "PLAIN" in right.kafka_security else "PLAINTEXT")
    )
    if right.kafka_password:
        assert "is not let in (" in why(replace(right, kafka_password="wr0ng"))
        assert "is not let in (" in why(replace(right, kafka_user="nobody-of-this-name"))


def test_a_mechanism_that_is_not_offered() -> None:
    with Listener(USERS, ("PLAIN", "GSSAPI")) as listener:
        assert why(to(listener, "SASL_PLAINTEXT")) == (
            "SCRAM-SHA-512 is not offered, but PLAIN, GSSAPI; set HEADRACE_KAFKA_MECHANISM=PLAIN"
        )
    with Listener(USERS, ("OAUTHBEARER",)) as listener:
        assert "have the broker offer one of PLAIN, SCRAM" in why(to(listener, "SASL_PLAINTEXT"))


@pytest.mark.parametrize("spoken", ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"])
def test_each_protocol_is_told_from_the_others(spoken: str, authority: Authority) -> None:
    users = USERS if "SASL" in spoken else {}
    context = authority.context() if "SSL" in spoken else None
    with Listener(users, context=context) as listener:
        for security in ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"):
            ca = {"kafka_ca": str(authority.file)} if "SSL" in security else {}
            settings = to(listener, security, **ca)
            if security == spoken:
                assert diagnose(settings) is None
            else:
                assert f"set HEADRACE_KAFKA_SECURITY={spoken}" in why(settings)


def test_certificates(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other")
    with Listener(context=authority.context()) as listener:
        assert "is not signed by who is trusted here; set HEADRACE_KAFKA_CA" in why(
            to(listener, "SSL")
        )
        line = why(to(listener, "SSL", kafka_ca=str(other.file)))
        assert f"is not signed by those of {other.file}; set HEADRACE_KAFKA_CA" in line
    trusting = {"kafka_ca": str(authority.file)}
    with Listener(context=authority.context("kafka.example")) as listener:
        line = why(to(listener, "SSL", **trusting))
        assert line.startswith("the broker's certificate is not for the name 127.0.0.1; use a name")
    with Listener(context=authority.context(days=-1)) as listener:
        assert "has expired; renew it" in why(to(listener, "SSL", **trusting))
    with Listener(context=authority.context(clients=True)) as listener:
        assert "wants a certificate of the client" in why(to(listener, "SSL", **trusting))


def test_a_file_of_authorities_that_goes_while_it_runs_is_waited_for(authority: Authority) -> None:
    with Listener(context=authority.context()) as listener:
        gone = to(listener, "SSL", kafka_ca="gone.pem")
        assert why(gone).startswith("HEADRACE_KAFKA_CA: must be a file of certificates (PEM), got")
        with pytest.raises(BrokerError):
            make_topics(gone)


def test_nobody_there_and_somebody_else() -> None:
    assert why(Settings(kafka=f"127.0.0.1:{free_port()}")).startswith("nobody listens at 127.0.0.1")
    line = why(Settings(kafka="kafka.invalid:9092"))
    assert line.startswith("there is no host named kafka.invalid; correct HEADRACE_KAFKA")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        line = why(Settings(kafka=f"127.0.0.1:{silent.getsockname()[1]}"))
        assert "does not answer as a broker (timed out)" in line
    with Listener(versions={18: (0, 4)}) as controller:
        assert "is no listener for clients (a controller's" in why(to(controller))


def test_an_address_that_only_the_broker_knows() -> None:
    with Listener(advertised=("kafka.invalid", 9092)) as listener:
        line = why(to(listener))
        assert "sends clients to kafka.invalid:9092, which does not work from here" in line
        assert line.endswith("correct advertised.listeners of the broker")


def test_one_broker_of_several_is_enough_and_else_the_nearest_is_told() -> None:
    away = f"127.0.0.1:{free_port()}"
    with Listener(USERS) as listener:
        right = to(listener, "SASL_PLAINTEXT")
        assert diagnose(replace(right, kafka=f"{away},{right.kafka}")) is None
        wrong = replace(right, kafka=f"{right.kafka},{away}", kafka_password="wr0ng")
        assert "is not let in" in why(wrong)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kafka_ca": "nowhere.pem"}, "HEADRACE_KAFKA_CA: must be a file of certificates (PEM), "
         "got 'nowhere.pem': No such file or directory"),
        ({"kafka_ca": __file__}, f"got '{__file__}': which has none"),
        ({"kafka_password": ""}, "HEADRACE_KAFKA_PASSWORD: must be set with "),
        ({"kafka_user": ""}, "HEADRACE_KAFKA_USER: must be set with "),
        ({"kafka": "localhost:x"}, "HEADRACE_KAFKA: must be host:port,..., got 'localhost:x'"),
        ({"kafka": " , "}, "HEADRACE_KAFKA: must be host:port of a broker, got nothing"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_right_end_at_once(changes: dict[str, str], says: str) -> None:
    sasl = Settings(
        kafka="127.0.0.1:1", kafka_security="SASL_SSL", kafka_user="app", kafka_password=PASSWORD
    )
    with pytest.raises(SettingError) as raised:
        client_options(replace(sasl, **changes))  # type: ignore[arg-type]
    assert says in str(raised.value)


@pytest.mark.parametrize("command", ["up", "gateway", "trainer", "ingest", "replay"])
def test_each_command_looks_at_the_file_of_authorities(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    monkeypatch.setattr("headrace.machine.stop_event", threading.Event)
    monkeypatch.setenv("HEADRACE_KAFKA", "127.0.0.1:1")
    monkeypatch.setenv("HEADRACE_KAFKA_CA", "nowhere.pem")
    assert main(["--home", str(tmp_path / "home"), command]) == 1
    assert "headrace: HEADRACE_KAFKA_CA: must be a file" in capsys.readouterr().err


def test_what_a_user_may_not_do_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise TopicAuthorizationFailedError("t")

    monkeypatch.setattr(KafkaAdminClient, "__init__", refuse)
    with Listener(USERS) as listener, pytest.raises(BrokerError) as raised:
        make_topics(to(listener, "SASL_PLAINTEXT", kafka_prefix="p."))
    assert "the user 'app' needs Read, Write" in str(raised.value)
    assert "begin with p." in str(raised.value)


def test_brokers_that_are_away_at_the_start_are_waited_for(
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tries: list[str] = []

    def ingest(engine: Engine, _: threading.Event) -> None:
        tries.append(engine.settings.kafka)
        if len(tries) < 4:
            raise BrokerError("nobody listens at b:1; start it")

    monkeypatch.setattr("headrace.machine.stop_event", threading.Event)
    monkeypatch.setattr("headrace.events.kafka.brokers.BACKOFF_S", (0.01, 0.02))
    monkeypatch.setattr("headrace.events.kafka.ingest.ingest", ingest)
    monkeypatch.setenv("HEADRACE_DSN", engine.settings.dsn)
    monkeypatch.setenv("HEADRACE_KAFKA", "b:1")
    assert main(["--home", str(engine.settings.home), "ingest"]) == 0
    assert tries == ["b:1"] * 4
    assert caplog.text.count("nobody listens at b:1; start it; trying again in") == 3


def test_a_wait_for_brokers_can_be_ended() -> None:
    stopping = threading.Event()

    def away() -> None:
        stopping.set()
        raise BrokerError("away")

    retry_without_brokers(away, stopping)


def test_what_runs_on_says_at_its_start_why_it_waits(caplog: pytest.LogCaptureFixture) -> None:
    with Listener(USERS) as listener:
        warn_without_brokers(to(listener, "SASL_PLAINTEXT", kafka_password="wr0ng"))
    assert "is not let in" in caplog.text and "events wait until then" in caplog.text
