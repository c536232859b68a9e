"""No page of another site steers the gateway, and only its owner changes what serves."""

from __future__ import annotations

import json
import socket
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from headrace.control.owner import owner_key
from headrace.engine import Engine
from headrace.errors import SettingError
from headrace.gateway.app import create_app
from headrace.settings import Settings
from tests.gateway.changes import CHANGES, PROMOTED, untouched
from tests.support.gateways import owner, running_gateway

OWNED = [change for change in CHANGES if "model-events" in change[1] or "policies" in change[1]]
# What a page may send without asking first, each with a body that is JSON all the same.
SIMPLE = [
    "text/plain", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x", "text/plain; application/json", "", "application/jsonp",
    "application/json, text/plain", "text/json",
]  # fmt: skip


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, allowed_hosts="gateway, Headrace.Example.org")


@pytest.fixture
def anyone(url: str) -> Iterator[httpx.Client]:
    """A client that sends the headers that a test names, and those that HTTP needs."""
    with httpx.Client(base_url=url, timeout=60) as client:
        yield client


def error(response: httpx.Response) -> str:
    message = str(response.json()["error"]["message"])
    assert message and "\n" not in message
    return message


@pytest.mark.parametrize("kind", SIMPLE)
def test_a_body_that_is_not_said_to_be_json_is_a_415(
    http: httpx.Client, engine: Engine, kind: str
) -> None:
    for method, path, body in CHANGES:
        headers = {"Content-Type": kind} if kind else {"Sec-Fetch-Site": "same-origin"}
        response = http.request(method, path, content=json.dumps(body), headers=headers)
        assert response.status_code == 415, path
        assert "application/json" in error(response) and "curl" in error(response)
    assert untouched(engine)


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8", ""])
def test_json_with_parameters_is_taken_and_a_program_may_say_nothing(
    http: httpx.Client, kind: str
) -> None:
    for method, path, body in CHANGES:
        headers = {"Content-Type": kind} if kind else {}
        response = http.request(method, path, content=json.dumps(body), headers=headers)
        assert response.status_code in ((404,) if path == "/v1/predict" else (200, 201)), path


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://127.0.0.1", "http://127.0.0.1:1", "", "file://",
     "http://localhost:{port}", "http://127.0.0.1:{port}.evil.example", "chrome-extension://abc"],
)  # fmt: skip
def test_another_origin_is_a_403_also_with_the_key_and_for_reading(
    http: httpx.Client, engine: Engine, origin: str
) -> None:
    headers = {"Origin": origin.format(port=http.base_url.port)}
    for method, path, body in CHANGES:
        response = http.request(method, path, json=body, headers=headers)
        assert response.status_code == 403, path
        assert "Origin" in error(response)
    for path in ("/", "/healthz", "/metrics", "/v1/plan", "/v1/models/m/policies", "/nothing"):
        response = http.get(path, headers=headers)
        assert response.status_code == 403
        assert "access-control-allow-origin" not in response.headers
    asked = {**headers, "Access-Control-Request-Method": "PUT"}
    preflight = http.options("/v1/models/m/policies", headers=asked)
    assert preflight.status_code == 403
    assert not any(name.startswith("access-control") for name in preflight.headers)
    assert untouched(engine)


def test_two_origins_are_both_looked_at(http: httpx.Client) -> None:
    own = str(http.base_url).rstrip("/")
    both = [("Origin", own), ("Origin", "https://evil.example")]
    assert http.get("/v1/plan", headers=both).status_code == 403


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]", "gateway"])
def test_its_own_origin_is_answered(http: httpx.Client, name: str) -> None:
    host = f"{name}:{http.base_url.port}"
    for origin in (f"http://{host}", f"https://{host}"):
        headers = {"Host": host, "Origin": origin}
        sent = http.post("/v1/inferences", json={"model": "m"}, headers=headers)
        assert sent.status_code == 201


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:80", "10.2.3.4:8321", "[::1]:8321", "[2001:db8::1]", "localhost",
     "Localhost.:1", "gateway:8321", "headrace.example.org", "HEADRACE.EXAMPLE.ORG."],
)  # fmt: skip
def test_hosts_that_are_answered(anyone: httpx.Client, host: str) -> None:
    assert anyone.get("/v1/plan", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8321", "localhost.evil.example", "127.0.0.1.evil.example",
     "example.org", "a.headrace.example.org", "127.0.0.1@evil.example", "[::1].evil.example",
     "[evil.example]", "gateway..", "127.1", "0x7f000001", "2130706433", "", "::1",
     "localhost:x", "localhost:8321:1", "gateway/", "gateway,localhost", "\xe9"],
)  # fmt: skip
def test_a_host_that_is_not_ours_is_a_421_that_names_the_setting(
    http: httpx.Client, engine: Engine, host: str
) -> None:
    for method, path, body in [*CHANGES, ("GET", "/v1/plan", {}), ("GET", "/metrics", {})]:
        headers = {b"Host": host.encode("latin-1")}
        response = http.request(method, path, json=body, headers=headers)
        assert response.status_code in (400, 421), path
        if response.status_code == 421:
            assert "HEADRACE_ALLOWED_HOSTS" in error(response)
    assert untouched(engine)


def raw(url: str, request: str) -> str:
    """Send a request as it stands and return the first line of the answer."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(request.encode())
        return connection.makefile().readline()


def test_no_host_or_two_of_them_are_not_answered(url: str) -> None:
    two = "Host: localhost\r\nHost: evil.example\r\n"
    for version, hosts in (("1.0", ""), ("1.1", ""), ("1.1", two), ("1.0", two)):
        status = raw(url, f"GET /v1/plan HTTP/{version}\r\n{hosts}\r\n").split()[1]
        assert status in ("400", "421")


@pytest.mark.parametrize("names", ["http://gateway", "gateway:80", "a b", "ex*mple", "*", "[::1]"])
def test_a_name_that_is_none_is_an_error_at_the_start(settings: Settings, names: str) -> None:
    engine = Engine("", replace(settings, allowed_hosts=f"gateway,{names}"))
    with pytest.raises(SettingError, match="HEADRACE_ALLOWED_HOSTS"):
        create_app(engine).build_middleware_stack()


@pytest.mark.parametrize(
    "sent",
    [None, "", "Bearer", "Bearer wrong-wrong-wrong-wrong", "Basic {key}", "{key}",
     "Bearer {key}x", "Bearer {key} {key}", "Bearer \xe9", "Bearer {upper}"],
)  # fmt: skip
def test_what_changes_versions_and_policies_needs_the_key(
    anyone: httpx.Client, engine: Engine, settings: Settings, sent: str | None
) -> None:
    key = owner_key(settings).value
    for method, path, body in OWNED:
        given = None if sent is None else sent.format(key=key, upper=key.swapcase())
        headers = {} if given is None else {b"Authorization": given.encode("latin-1")}
        response = anyone.request(method, path, json=body, headers=headers)
        assert response.status_code == 401, path
        assert response.headers["www-authenticate"] == "Bearer"
        assert str(settings.home.resolve() / "owner-key") in error(response)
        assert key not in response.text
    assert untouched(engine)


def test_with_the_key_versions_and_policies_change(
    anyone: httpx.Client, settings: Settings
) -> None:
    for scheme in ("Bearer", "bearer"):
        headers = {"Authorization": f"{scheme} {owner_key(settings).value}"}
        event = {**PROMOTED, "event_id": scheme}
        assert anyone.post("/v1/model-events", json=event, headers=headers).status_code == 201
    path = "/v1/models/m/policies"
    set_to = anyone.put(path, json={"min_new_labels": 7}, headers=headers)
    assert set_to.json()["own"] == {"min_new_labels": "7"}
    assert anyone.get(path).status_code == 200


def test_what_is_owned_is_all_that_changes_versions_and_policies(engine: Engine) -> None:
    """Every endpoint is either asked for the key here, or known to store events and no more.

    Those of reviewers ask for their own key: test_review.py and test_neighbours.py.
    """
    free = {"/v1/inferences", "/v1/feedback", "/v1/predict", "/v1/rank", "/v1/neighbours"}
    free |= {f"/v1/review/{what}" for what in ("claim", "label", "skip", "undo")}
    owned = {path for _, path, _ in OWNED}
    for route in create_app(engine).routes:
        if set(route.methods) - {"GET", "HEAD"}:  # type: ignore[attr-defined]
            path = route.path.replace("{model:path}", "m")  # type: ignore[attr-defined]
            assert path in free | owned


def test_the_key_of_the_setting_counts_instead_of_the_file(
    engine: Engine, settings: Settings
) -> None:
    given = replace(settings, owner_key="k" * 16)
    with running_gateway(engine, given) as url, httpx.Client(base_url=url) as http:
        path = "/v1/models/m/policies"
        refused = http.put(path, json={})
        assert refused.status_code == 401 and "HEADRACE_OWNER_KEY" in error(refused)
        assert http.put(path, json={}, headers=owner(given)).status_code == 200
    assert not (settings.home / "owner-key").exists()
    assert "k" * 16 not in repr(given) + repr(owner_key(given))


@pytest.mark.parametrize("key", ["short", "x" * 15, "with spaces in between it", "ключ" * 8])
def test_a_weak_key_is_refused(key: str) -> None:
    with pytest.raises(SettingError, match="HEADRACE_OWNER_KEY: must hold 16") as caught:
        owner_key(Settings(owner_key=key))
    assert key not in str(caught.value)


def test_the_key_is_made_once_for_its_user_alone(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "new" / "home")
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(lambda _: owner_key(settings), range(64)))
    assert len({key.value for key in made}) == 1
    path = settings.home / "owner-key"
    assert made[0].place == str(path) and made[0].value == path.read_text().strip()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(settings.home.iterdir()) == [path]
    assert owner_key(Settings(home=tmp_path)).value != made[0].value


def test_a_key_that_others_may_read_or_that_is_broken_is_no_key(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    path = tmp_path / "owner-key"
    owner_key(settings)
    path.chmod(0o640)
    with pytest.raises(SettingError, match="chmod 600"):
        owner_key(settings)
    path.chmod(0o600)
    path.write_text("")
    with pytest.raises(SettingError, match="must hold 16"):
        owner_key(settings)
    path.unlink()
    path.mkdir()
    with pytest.raises(SettingError, match="cannot be kept"):
        owner_key(settings)


@pytest.mark.parametrize("uri", ["/etc", "file:///etc", "..", "{root}/../x", "{root}", "FILE:/x"])
def test_an_artifact_outside_is_refused_at_the_door(
    http: httpx.Client, engine: Engine, uri: str
) -> None:
    root = engine.settings.artifacts_path.resolve()
    event = {**PROMOTED, "artifact_uri": uri.format(root=root)}
    response = http.post("/v1/model-events", json=event)
    assert response.status_code == 422
    (rejected,) = response.json()["rejected"]
    assert rejected["field"] == "artifact_uri" and str(root) in rejected["message"]
    assert engine.rows("select * from events.model_events") == []


@pytest.mark.parametrize("uri", ["{root}/m/v1", "s3://bucket/m", "models:/m/1", "https://x/y"])
def test_an_artifact_inside_or_of_another_registry_is_kept(
    http: httpx.Client, engine: Engine, uri: str
) -> None:
    event = {**PROMOTED, "artifact_uri": uri.format(root=engine.settings.artifacts_path.resolve())}
    assert http.post("/v1/model-events", json=event).status_code == 201
    assert http.post("/v1/predict", json={"model": "m"}).status_code in (404, 503)
