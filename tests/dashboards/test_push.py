"""Push to a server that responds as Grafana's HTTP API documents; the real one cannot run here."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from psycopg.conninfo import conninfo_to_dict

from headrace.dashboards import FOLDER, load
from headrace.dashboards.push import DATASOURCE_UID, push
from headrace.engine import Engine
from headrace.errors import GrafanaError, HeadraceError, SettingError
from headrace.settings import Settings
from tests.support.web import Handler, serving

TOKEN = "glsa_not_a_real_one"


class FakeGrafana(ThreadingHTTPServer):
    """Responds as Grafana 11 to 13: from its documented API and the source of its handlers."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, 0), _Handler)
        self.requests: list[tuple[str, str, Any]] = []
        self.datasources: dict[str, Any] = {}
        self.dashboards: dict[str, Any] = {}
        self.folders: dict[str, str] = {}  # of each dashboard; none: in General
        self.says: tuple[int, Any] | None = None  # the response to every request
        self.sends_to: str | None = None  # where every request is redirected to
        self.status = 302

    @property
    def url(self) -> str:
        host = str(self.server_address[0])
        return f"http://{f'[{host}]' if ':' in host else host}:{self.server_port}/grafana"

    def respond(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if self.says:
            return self.says
        address = urlsplit(path)
        match method, address.path.removeprefix("/grafana/api").strip("/").split("/"):
            case "GET", ["datasources", "uid", uid]:
                if uid in self.datasources:
                    return 200, self._shown(uid)
                return 404, {"message": "Data source not found"}
            case "POST", ["datasources"]:
                if body["uid"] in self.datasources:
                    return 409, {"message": "data source with the same name already exists"}
                self.datasources[body["uid"]] = {"readOnly": False, "basicAuth": False, **body}
                return 200, {"datasource": self._shown(body["uid"]), "message": "Datasource added"}
            case "PUT", ["datasources", "uid", uid]:
                if self.datasources[uid]["readOnly"]:
                    return 403, {"message": "Cannot update read-only data source"}
                kept = self.datasources[uid].get("secureJsonData", {})
                secret = {**kept, **body.get("secureJsonData", {})}
                body = {**body, "readOnly": False} | ({"secureJsonData": secret} if secret else {})
                self.datasources[uid] = body
                return 200, {"datasource": self._shown(uid), "message": "Datasource updated"}
            case "GET", ["search"]:
                return 200, self._found(parse_qs(address.query)["dashboardUIDs"])
            case "GET", ["dashboards", "uid", _]:
                return 406, {"message": "dashboard api version not supported, use /apis/..."}
            case "POST", ["dashboards", "db"]:
                uid = body["dashboard"]["uid"]
                if uid in self.dashboards and not body["overwrite"]:
                    return 412, {"status": "version-mismatch"}
                self.dashboards[uid] = body["dashboard"]
                self.folders[uid] = body.get("folderUid", "")
                return 200, {"uid": uid, "url": f"/grafana/d/{uid}/the-loop", "status": "success"}
        return 404, {"message": "Not found"}

    def _shown(self, uid: str) -> dict[str, Any]:
        source = {"id": 7, "orgId": 1, "version": 3, **self.datasources[uid]}
        return source | {"secureJsonFields": dict.fromkeys(source.pop("secureJsonData", {}), True)}

    def _found(self, uids: list[str]) -> list[dict[str, Any]]:
        hits = []
        for uid in uids:
            if uid in self.dashboards:
                hit = {"id": 1, "uid": uid, "title": "The loop", "type": "dash-db", "tags": []}
                folder = self.folders[uid]
                hits.append(hit | ({"folderUid": folder, "folderId": 4} if folder else {}))
        return hits


class _Handler(Handler):
    server: FakeGrafana

    def _serve(self) -> None:
        sent = self.body()
        body = json.loads(sent) if sent else None
        self.server.requests.append((self.command, self.path, body))
        if self.server.sends_to:
            self.send_response(self.server.status)
            self.send_header("Location", self.server.sends_to + self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            response: tuple[int, Any] = 401, {"message": "Invalid API key"}
        else:
            response = self.server.respond(self.command, self.path, body)
        status, content = response
        text = content if isinstance(content, str) else json.dumps(content)
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    do_GET = do_POST = do_PUT = _serve


@pytest.fixture
def grafana() -> Iterator[FakeGrafana]:
    with serving(FakeGrafana()) as server:
        yield server


@pytest.fixture
def settings(embedded: Engine, grafana: FakeGrafana) -> Settings:
    return replace(embedded.settings, grafana_url=grafana.url, grafana_token=TOKEN)


def test_push_twice_is_as_once(settings: Settings, embedded: Engine, grafana: FakeGrafana) -> None:
    first = push(settings, embedded)
    stored = json.dumps([grafana.datasources, grafana.dashboards], sort_keys=True)
    second = push(settings, embedded)
    assert (first.datasource, second.datasource) == ("created", "updated")
    assert json.dumps([grafana.datasources, grafana.dashboards], sort_keys=True) == stored
    assert first.url == second.url == f"{grafana.url}/d/headrace-loop/the-loop"
    assert first.notes == ()
    assert grafana.dashboards == {"headrace-loop": load()}


@pytest.mark.parametrize("folder", ["team-ml", "", "general"])
def test_dashboard_stays_in_its_folder(
    settings: Settings, embedded: Engine, grafana: FakeGrafana, folder: str
) -> None:
    push(settings, embedded)
    assert grafana.folders == {"headrace-loop": ""}
    grafana.dashboards["another"] = {}
    grafana.folders |= {"headrace-loop": folder, "another": "elsewhere"}
    push(settings, embedded)
    assert grafana.folders["headrace-loop"] == folder.replace("general", "")


def test_what_was_set_by_hand_stays(
    settings: Settings, embedded: Engine, grafana: FakeGrafana
) -> None:
    push(settings, embedded)
    source = grafana.datasources[DATASOURCE_UID]
    made = json.loads(json.dumps(source))
    by_hand = {"sslmode": "verify-full", "sslRootCertFile": "/etc/ca.pem", "maxOpenConns": 50,
               "connMaxLifetime": 60, "timescaledb": True}  # fmt: skip
    source |= {"name": "Models", "isDefault": True}
    source["jsonData"] = source["jsonData"] | by_hand | {"database": "old"}
    source["secureJsonData"] |= {"tlsCACert": "-----BEGIN"}
    pushed = push(settings, embedded)
    source = grafana.datasources[DATASOURCE_UID]
    assert source["jsonData"] == made["jsonData"] | by_hand
    assert source["secureJsonData"] == made["secureJsonData"] | {"tlsCACert": "-----BEGIN"}
    assert (source["name"], source["isDefault"], source["user"]) == ("Models", True, made["user"])
    assert pushed.datasource == "updated"


def test_another_address_is_encrypted_as_it_asks(
    settings: Settings, embedded: Engine, grafana: FakeGrafana
) -> None:
    push(settings, embedded)
    source = grafana.datasources[DATASOURCE_UID]
    source["url"] = "db.example:5432"
    source["jsonData"] |= {"sslmode": "verify-full", "maxOpenConns": 50}
    push(settings, embedded)
    data = grafana.datasources[DATASOURCE_UID]["jsonData"]
    assert (data["sslmode"], data["maxOpenConns"]) == ("disable", 50)


def test_provisioned_datasource_is_left_alone(
    settings: Settings, embedded: Engine, grafana: FakeGrafana
) -> None:
    provisioned = {"uid": DATASOURCE_UID, "name": "Headrace", "url": "db:5432", "readOnly": True}
    grafana.datasources[DATASOURCE_UID] = dict(provisioned)
    pushed = push(settings, embedded)
    assert pushed.datasource == "provisioned"
    (note,) = pushed.notes
    assert "provisioned from files" in note and "token" not in note
    assert grafana.datasources[DATASOURCE_UID] == provisioned
    assert grafana.dashboards == {"headrace-loop": load()}


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("path", ["", "/sub/path"])
def test_a_redirect_is_reported_and_not_followed(
    settings: Settings, embedded: Engine, grafana: FakeGrafana, status: int, path: str
) -> None:
    with serving(FakeGrafana()) as other:
        there = f"http://127.0.0.1:{other.server_port}{path}"
        grafana.sends_to = there.replace("http://", "http://user:hidden@")
        grafana.status = status
        with pytest.raises(GrafanaError, match="redirects to") as caught:
            push(settings, embedded)
        assert f" {there}/grafana, " in str(caught.value)
        assert "HEADRACE_GRAFANA_URL" in str(caught.value)
        assert "hidden" not in str(caught.value)
        assert other.requests == []
    assert len(grafana.requests) == 1


def test_a_redirect_to_nowhere(settings: Settings, embedded: Engine, grafana: FakeGrafana) -> None:
    grafana.sends_to = "http://[broken"
    with pytest.raises(GrafanaError, match="not that of Grafana"):
        push(settings, embedded)


def test_address_of_ipv6(settings: Settings, embedded: Engine) -> None:
    with serving(FakeGrafana("::1")) as server:
        pushed = push(replace(settings, grafana_url=server.url), embedded)
        assert pushed.url.startswith(f"http://[::1]:{server.server_port}/grafana/d/")
        assert server.dashboards == {"headrace-loop": load()}


def test_datasource_reads_as_the_reader(
    settings: Settings, embedded: Engine, grafana: FakeGrafana
) -> None:
    push(settings, embedded)
    source = grafana.datasources[DATASOURCE_UID]
    parts = conninfo_to_dict(embedded.dsn)
    assert source["user"] == "headrace_reader"
    assert source["url"] == f"{parts['host']}:{parts['port']}"
    assert source["jsonData"]["database"] == parts["dbname"]
    assert source["jsonData"]["sslmode"] == "disable"
    current = next(v for v in load()["templating"]["list"] if v["name"] == "datasource")
    assert current["current"]["value"] == source["uid"]
    assert current["query"] == source["type"]


def test_secrets_stay_where_they_belong(
    settings: Settings, embedded: Engine, grafana: FakeGrafana
) -> None:
    pushed = push(settings, embedded)
    password = str(conninfo_to_dict(embedded.reader_dsn())["password"])
    source = dict(grafana.datasources[DATASOURCE_UID])
    assert source.pop("secureJsonData") == {"password": password}
    sent = json.dumps([source, grafana.dashboards, [path for _, path, _ in grafana.requests]])
    for secret in (password, str(conninfo_to_dict(embedded.dsn)["password"]), TOKEN):
        assert secret not in sent
        assert secret not in str(pushed)


def test_password_of_an_external_database_is_left_alone(
    settings: Settings, engine: Engine, grafana: FakeGrafana
) -> None:
    assert engine.settings.dsn
    pushed = push(settings, engine)
    assert "secureJsonData" not in grafana.datasources[DATASOURCE_UID]
    assert "headrace_reader" in pushed.notes[0]
    owner = str(conninfo_to_dict(engine.dsn)["password"])
    assert owner not in json.dumps([body for _, _, body in grafana.requests])
    grafana.datasources[DATASOURCE_UID]["secureJsonData"] = {"password": "set by hand"}
    push(settings, engine)
    assert grafana.datasources[DATASOURCE_UID]["secureJsonData"] == {"password": "set by hand"}


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"grafana_url": ""}, "HEADRACE_GRAFANA_URL: must be the address"),
        ({"grafana_url": "grafana.example"}, "HEADRACE_GRAFANA_URL: must be an address"),
        ({"grafana_url": "http://admin:pw@localhost"}, "without a user"),
        ({"grafana_url": "http://localhost:port"}, "HEADRACE_GRAFANA_URL: must be an address"),
        ({"grafana_token": ""}, "HEADRACE_GRAFANA_TOKEN: must be given"),
        ({"grafana_token": "a\nb"}, "HEADRACE_GRAFANA_TOKEN: must be one line"),
    ],
)
def test_settings_are_checked(
    settings: Settings, embedded: Engine, grafana: FakeGrafana, changes: dict[str, str], word: str
) -> None:
    with pytest.raises(SettingError, match=word):
        push(replace(settings, **changes), embedded)  # type: ignore[arg-type]
    assert grafana.requests == []


@pytest.mark.parametrize(
    ("says", "word"),
    [
        ((403, {"message": "Permissions needed: datasources:create"}), "lacks the permission"),
        ((403, {"message": "Cannot update read-only data source"}), "provisioned from files"),
        ((500, {"message": "database is locked"}), "responded with 500: database is locked"),
        ((400, {"message": "Cannot save provisioned dashboard"}), "provisioned from files"),
        ((200, "<html>a message</html>"), "not that of Grafana"),
        ((502, "a message of a proxy"), "502|not that of Grafana"),
        ((200, {"status": "up"}), "not that of Grafana"),
    ],
)
def test_refusals_say_what_to_do(
    settings: Settings, embedded: Engine, grafana: FakeGrafana, says: tuple[int, Any], word: str
) -> None:
    grafana.says = says
    with pytest.raises(GrafanaError, match=word) as caught:
        push(settings, embedded)
    assert TOKEN not in str(caught.value)


def test_refused_token(settings: Settings, embedded: Engine) -> None:
    with pytest.raises(GrafanaError, match="the token is rejected") as caught:
        push(replace(settings, grafana_token="glsa_wrong"), embedded)
    assert "service account" in str(caught.value)
    assert "glsa_wrong" not in str(caught.value)


def test_unreachable(settings: Settings, embedded: Engine) -> None:
    free = replace(settings, grafana_url="http://127.0.0.1:1")
    with pytest.raises(GrafanaError, match="cannot be reached") as caught:
        push(free, embedded)
    assert isinstance(caught.value, HeadraceError)


def test_provisioning_files_agree_with_push() -> None:
    yaml = pytest.importorskip("yaml")
    text = (FOLDER / "provisioning/datasources/headrace.yaml").read_text()
    (source,) = yaml.safe_load(text)["datasources"]
    assert source["uid"] == DATASOURCE_UID
    assert source["user"] == "headrace_reader"
    assert source["type"] == load()["panels"][1]["datasource"]["type"]
    assert source["secureJsonData"]["password"].startswith("$")
    assert Path(FOLDER / "provisioning/dashboards/headrace.yaml").exists()
