"""Create the data source and the dashboard in Grafana through its HTTP API."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

import requests
from grafana_api.grafana_api import GrafanaClientError, GrafanaException
from grafana_api.grafana_face import GrafanaFace
from psycopg.conninfo import conninfo_to_dict

from headrace.dashboards import load
from headrace.engine import Engine
from headrace.engine.dialect import READER
from headrace.errors import GrafanaError, SettingError
from headrace.settings import Settings

DATASOURCE_UID = "headrace"
TIMEOUT_S = 10.0
PROVISIONED = "provisioned"
# A push overwrites these fields of an existing data source and keeps all others, which may have
# been set by hand: certificates, the pool, whether it is the default, its name.
OURS = ("database", "postgresVersion")
THEIRS = ("name", "isDefault", "basicAuth", "basicAuthUser", "withCredentials")
TOKEN_HELP = (
    "make a service account with the role Admin in Grafana (Administration, Users and access, "
    "Service accounts), add a token to it and set HEADRACE_GRAFANA_TOKEN to that"
)


@dataclass(frozen=True)
class Pushed:
    """What `push` did. Each of `notes` is a sentence: something left for a person to do."""

    url: str
    datasource: str  # created, updated or provisioned
    notes: tuple[str, ...]


def push(settings: Settings, engine: Engine) -> Pushed:
    """Create or update the data source and the dashboard; repeating it changes nothing.

    The data source reads as headrace_reader. On an external database only its administrator knows
    that role's password, so the password in Grafana is left as it is. So is a data source
    provisioned from files. The dashboard stays in its folder.

    Raises:
        SettingError: the address or the token of Grafana is missing or malformed.
        GrafanaError: Grafana cannot be reached, rejects the request, or responds with an error.
        EngineError: the database cannot be reached.
    """
    address = _address(settings)
    datasource = datasource_of(engine)
    grafana = GrafanaFace(
        auth=settings.grafana_token,
        host=_bracketed(str(address.hostname)),
        port=address.port,
        protocol=address.scheme,
        url_path_prefix=address.path.strip("/") + "/" if address.path.strip("/") else "",
        timeout=TIMEOUT_S,
    )
    grafana.api.s.max_redirects = 0  # the token is sent to the configured address only
    dashboard = load()
    with _explained(settings):
        done = _put_datasource(grafana, datasource)
        response = grafana.dashboard.update_dashboard(
            {
                "dashboard": dashboard,
                "folderUid": _folder_of(grafana, dashboard["uid"]),
                "overwrite": True,
                "message": "headrace dashboards push",
            }
        )
        page = f"{address.scheme}://{address.netloc}{response['url']}"
    return Pushed(page, done, tuple(_notes(address, datasource, done)))


def datasource_of(engine: Engine) -> dict[str, Any]:
    """Return the engine's database as a Grafana data source; holds the password when known."""
    with engine.connect() as connection:
        info = connection.info
        host, port, database = info.host, info.port, info.dbname
        version = info.server_version // 10_000
        encrypted = connection.pgconn.ssl_in_use
    asked = conninfo_to_dict(engine.dsn).get("sslmode")
    verified = asked if asked in ("verify-ca", "verify-full") else "require"
    source: dict[str, Any] = {
        "uid": DATASOURCE_UID,
        "name": "Headrace",
        "type": "grafana-postgresql-datasource",
        "access": "proxy",
        "url": host if host.startswith("/") else f"{_bracketed(host)}:{port}",
        "user": READER,
        "isDefault": False,
        "jsonData": {
            "database": database,
            "sslmode": verified if encrypted else "disable",
            "postgresVersion": version * 100,
            "timescaledb": False,
            "maxOpenConns": 5,
        },
    }
    if not engine.settings.dsn:
        password = conninfo_to_dict(engine.reader_dsn())["password"]
        source["secureJsonData"] = {"password": password}
    return source


def _put_datasource(grafana: GrafanaFace, source: dict[str, Any]) -> str:
    # Newer Grafanas switch the API by numeric id off: the package's id may be "uid/<uid>" as well.
    path = f"uid/{source['uid']}"
    try:
        there = grafana.datasource.get_datasource_by_id(path)
    except GrafanaClientError as error:
        if error.status_code != 404:
            raise
        grafana.datasource.create_datasource(source)
        return "created"
    if there.get("readOnly"):
        return PROVISIONED
    grafana.datasource.update_datasource(path, _merged(there, source))
    return "updated"


def _merged(there: dict[str, Any], source: dict[str, Any]) -> dict[str, Any]:
    """Return `source` merged with what was set by hand in Grafana; Grafana keeps secrets by itself.

    The encryption mode is overwritten only when the address changes.
    """
    ours = OURS if there.get("url") == source["url"] else (*OURS, "sslmode")
    data = source["jsonData"] | (there.get("jsonData") or {})
    return {
        **source,
        **{key: there[key] for key in THEIRS if key in there},
        "jsonData": data | {key: source["jsonData"][key] for key in ours},
    }


def _folder_of(grafana: GrafanaFace, uid: str) -> str:
    """Return the uid of the dashboard's folder; empty when it is in none or does not exist yet.

    Uses the search: for a dashboard saved as schema v2 a request by uid fails with 406.
    """
    found = grafana.api.GET(f"/search?type=dash-db&dashboardUIDs={uid}")
    folder = next((each.get("folderUid") for each in found if each["uid"] == uid), None)
    return "" if folder in (None, "general") else str(folder)


def _address(settings: Settings) -> SplitResult:
    if not settings.grafana_url:
        raise SettingError(
            "HEADRACE_GRAFANA_URL: must be the address of a Grafana, such as "
            "http://localhost:3000, got nothing; `headrace dashboards page` needs no Grafana"
        )
    wrong = SettingError(
        "HEADRACE_GRAFANA_URL: must be an address such as http://localhost:3000 without a user, "
        "a password or a query"
    )
    try:
        address = urlsplit(settings.grafana_url)
        address.port  # noqa: B018 - raises when it is no port
    except ValueError:
        raise wrong from None
    if address.scheme not in ("http", "https") or not address.hostname:
        raise wrong
    if "@" in address.netloc or address.query or address.fragment:
        raise wrong
    if not settings.grafana_token:
        raise SettingError(f"HEADRACE_GRAFANA_TOKEN: must be given; {TOKEN_HELP}")
    if not settings.grafana_token.isascii() or not settings.grafana_token.isprintable():
        raise SettingError("HEADRACE_GRAFANA_TOKEN: must be one line of ASCII without blanks")
    return address


@contextmanager
def _explained(settings: Settings) -> Iterator[None]:
    """Turn errors of the HTTP client into errors that say what to do and contain no secret."""
    url = settings.grafana_url
    try:
        yield
    except requests.exceptions.SSLError:
        raise GrafanaError(
            f"{url}: its certificate is not trusted; set REQUESTS_CA_BUNDLE to a file with the "
            "authority's certificate"
        ) from None
    except requests.exceptions.JSONDecodeError:
        raise _not_grafana(url) from None
    except requests.exceptions.TooManyRedirects as error:
        raise _redirected(url, error) from None
    except requests.exceptions.RequestException as error:
        raise GrafanaError(
            f"{url}: cannot be reached ({type(error).__name__}); check that Grafana runs and that "
            "HEADRACE_GRAFANA_URL is its address as seen from this machine"
        ) from None
    except GrafanaException as error:
        raise _refused(url, error) from None
    except (AttributeError, KeyError, TypeError):
        raise _not_grafana(url) from None


def _not_grafana(url: str) -> GrafanaError:
    return GrafanaError(
        f"{url}: the response is not that of Grafana's API; check that HEADRACE_GRAFANA_URL "
        "has the full path, also for a Grafana behind a proxy"
    )


def _redirected(url: str, error: requests.exceptions.TooManyRedirects) -> GrafanaError:
    if error.response is None:
        return _not_grafana(url)
    try:
        target = urlsplit(urljoin(error.response.url, error.response.headers["location"]))
    except ValueError:
        return _not_grafana(url)
    base = target._replace(
        netloc=target.netloc.rpartition("@")[2],
        path=target.path.partition("/api/")[0],
        query="",
        fragment="",
    ).geturl()
    return GrafanaError(
        f"{url}: redirects to {base}, which was not followed; if that is your Grafana, set "
        "HEADRACE_GRAFANA_URL to it"
    )


def _refused(url: str, error: GrafanaException) -> GrafanaError:
    said = error.response.get("message", "") if isinstance(error.response, dict) else ""
    if "provisioned" in said.lower() or "read-only" in said.lower():
        return GrafanaError(f"{url}: {said}; it is provisioned from files: change or remove those")
    match error.status_code:
        case 401:
            return GrafanaError(f"{url}: the token is rejected (401); {TOKEN_HELP}")
        case 403:
            return GrafanaError(
                f"{url}: the token lacks the permission (403: {said}); {TOKEN_HELP}"
            )
        case 404:
            return _not_grafana(url)
    return GrafanaError(f"{url}: responded with {error.status_code}: {said or 'no reason given'}")


def _notes(address: SplitResult, source: dict[str, Any], done: str) -> Iterator[str]:
    if done == PROVISIONED:
        yield (
            f"The data source {DATASOURCE_UID} is provisioned from files and was left as "
            "it is: change it in those files (docs/dashboards.md, Provisioning by files)."
        )
        return
    if "secureJsonData" not in source:
        yield (
            f"Set the password of the role {READER} once in Grafana, under Connections, "
            "Data sources, Headrace; later pushes leave it as it is."
        )
    if _is_local(source["url"]) and not _is_local(address.netloc):
        yield (
            f"Grafana on {address.hostname} cannot reach {source['url']}, which is "
            "local to this machine: use a Grafana here, or an external database (HEADRACE_DSN)."
        )


def _is_local(netloc: str) -> bool:
    host = urlsplit(f"//{netloc}").hostname or ""
    if host in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
