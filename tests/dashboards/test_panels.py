"""Every panel's SQL runs on the live views and gives what its panel type needs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import combinations, pairwise
from typing import Any

import psycopg
import pytest

from headrace.dashboards.fields import field_of, show
from headrace.dashboards.macros import interpolate, key_of
from headrace.dashboards.reading import Panel, Result, lines_of, shown
from headrace.engine import Engine
from headrace.events.contract import Topic, parse
from headrace.events.log import EventLog
from tests.dashboards.life import MODEL, PREDICTIONS, START
from tests.dashboards.panels import DASHBOARD, END, NUMBERS, PANELS, run
from tests.support.standin import violations

VARIABLES = {item["name"]: item for item in DASHBOARD["templating"]["list"]}


def targets(panel: Panel) -> Iterator[str]:
    for target in panel["targets"]:
        yield target["rawSql"]


def check_columns(panel: Panel, types: dict[str, str]) -> None:
    names, title = list(types), panel["title"]
    numeric = [name for name in names if types[name] in NUMBERS]
    # Grafana's PostgreSQL data source shows intervals and JSON as raw bytes or text.
    assert not set(types.values()) & {"interval", "json", "jsonb"}, title
    match panel["type"]:
        case "timeseries":
            assert names[0] == "time" and types["time"] == "timestamptz", title
            assert numeric, title
            if "metric" in names:
                assert names == ["time", "metric", "value"] and types["metric"] == "text", title
        case "bargauge":
            assert len(names) == 2 and len(numeric) == 1, title
        case "barchart":
            assert types[names[0]] == "text" and numeric == names[1:], title
        case "stat":
            assert names, title
        case "table":
            assert len(names) > 1, title
        case kind:
            pytest.fail(f"{title}: nothing is known of panel type {kind}")


def test_panels_run_on_an_empty_database(reader: Engine) -> None:
    assert reader.rows("select current_user as me") == [{"me": "headrace_reader"}]
    for panel in PANELS:
        for sql in targets(panel):
            types, rows = run(reader, sql)
            check_columns(panel, types)
            assert len(rows) <= 1, panel["title"]


# There is none in this life; tests/dbt_project/test_ab.py has some.
EXPERIMENTS = {"Verdicts", "Metrics and guardrails", "Assignment"}


@pytest.mark.usefixtures("filled")
def test_panels_show_a_life(reader: Engine) -> None:
    shown = {}
    for panel in PANELS:
        for sql in targets(panel):
            types, rows = run(reader, sql)
            check_columns(panel, types)
            assert rows or panel["title"] in EXPERIMENTS, panel["title"]
            shown[panel["title"]] = rows
            for override in panel["fieldConfig"]["overrides"]:
                assert override["matcher"]["options"] in types, panel["title"]
    check_numbers(shown)
    note = DASHBOARD["annotations"]["list"][0]["target"]["rawSql"]
    types, rows = run(reader, note)
    assert types["time"] == "timestamptz"
    assert [row["text"] for row in rows] == ["v1 promoted", "v2 promoted", "v3 promoted"]


@pytest.mark.usefixtures("filled")
def test_panels_choose_a_value_of_what_they_ask_for(reader: Engine) -> None:
    """Grafana draws the columns that `reduceOptions` names by their display name, or none."""
    for panel in PANELS:
        if "reduceOptions" not in panel["options"]:
            continue
        types, rows = run(reader, panel["targets"][0]["rawSql"])
        result = Result(list(types), [list(row.values()) for row in rows])
        values = shown(panel, result)
        assert any(each.value is not None for each in values), panel["title"]
        assert not any("$" in each.name for each in values), panel["title"]


def check_numbers(shown: dict[str, list[dict[str, Any]]]) -> None:
    assert shown["Champion"] == [{"champion": "v3"}]
    assert shown["Runs"] == [{"published": 3, "rejected": 1}]
    runs = shown["Training runs"]
    assert {(row["model"], row["status"]) for row in runs} == {
        (MODEL, "running"), ("another", "running"),
    }  # fmt: skip
    assert (runs[0]["step"], runs[0]["of"], runs[0]["left"]) == (80, 320, 75.2)
    assert shown["Orphan feedback"] == [{"orphans": 1}]
    assert shown["Rejected, last hour"] == [{"rejected": 1}]
    assert sum(row["value"] for row in shown["Predictions per window"]) == PREDICTIONS
    assert {row["metric"] for row in shown["AUC by version"]} == {"v1", "v2", "v3"}
    assert all(0 <= row["labelled"] <= 1 for row in shown["Label coverage"])
    for row in shown["Latency"]:
        assert 0 < row["p50"] <= row["p95"] <= row["p99"]
    gates = {row["version"]: row["gate"] for row in shown["Versions"]}
    assert gates == {"v1": "passed", "v2": "passed", "v3": "passed", "v4": "failed"}
    assert shown["PSI by feature"][0]["feature"] in ("<script>", "amount")
    assert {row["version"] for row in shown["Stages of the last 8 versions"]} == {"v1", "v2", "v3"}
    assert shown["Last rejected events"][0]["reason"].startswith("score: must be a number")


@pytest.mark.usefixtures("filled")
def test_time_ranges_to_look_at(reader: Engine) -> None:
    panel = next(p for p in PANELS if p["title"] == "Look at the events' own time")
    _, rows = run(reader, panel["targets"][0]["rawSql"])
    allowed = VARIABLES["window"]["query"].split(",")
    assert [row["range"] for row in rows] == [
        "last hour", "last day", "last 60 days", "everything",
    ]  # fmt: skip
    volume = next(p for p in PANELS if p["title"] == "Predictions per window")["targets"][0][
        "rawSql"
    ]
    assert {row["window"] for row in rows} <= set(allowed)
    for row in rows[1], rows[-1]:
        start, end = (
            datetime.fromtimestamp(row[name] / 1000, START.tzinfo) for name in ("from_ms", "to_ms")
        )
        values = {"model": key_of(MODEL), "window": row["window"], "min_labels": "1"}
        assert reader.rows(interpolate(volume, values, start, end)), row["range"]
    (link,) = field_of(panel, "range")["links"]
    assert link["url"].startswith(f"/d/{DASHBOARD['uid']}?")
    for name in ("window", "from_ms", "to_ms"):
        assert f"${{__data.fields.{name}}}" in link["url"]


@pytest.mark.usefixtures("filled")
def test_variables_match_the_views(reader: Engine) -> None:
    (option,) = reader.rows(VARIABLES["model"]["query"])
    assert option == {"__text": MODEL, "__value": key_of(MODEL)}
    windows = reader.rows("select distinct window_name from headrace.model_performance")
    assert {row["window_name"] for row in windows} == set(VARIABLES["window"]["query"].split(","))


GRIDS = {
    "1 minute": timedelta(minutes=1),
    "5 minutes": timedelta(minutes=1),
    "1 hour": timedelta(hours=1),
    "1 day": timedelta(days=1),
    "30 days": timedelta(days=1),
}
LINES = {
    "AUC by version": "auc",
    "Log loss by version": "log_loss",
    "F1 by version": "f1",
    "Accuracy by version": "accuracy",
    "Label coverage": "label_rate",
    "Error rate": "error_rate",
    "Latency": "latency_p50_ms",
}


@pytest.mark.parametrize("window", GRIDS)
def test_an_outage_breaks_the_lines(window: str, embedded: Engine, reader: Engine) -> None:
    """After the last window before an outage comes one moment without a value, and no other."""
    hours = [*range(3), *range(47, 50), 72]
    moments = [START + timedelta(hours=h, minutes=m) for h in hours for m in range(0, 60, 10)]
    with EventLog(embedded) as log:
        for topic, rows in events_at(moments).items():
            log.submit(topic, [parse(topic, row) for row in rows]).result(30)
    for title, column in LINES.items():
        known = {
            row["window_end"]: row["value"]
            for row in reader.rows(
                f"select window_end, {column} as value from headrace.model_performance "
                "where window_name = %s and window_end <= %s and labeled > 0",
                [window, END],
            )
        }
        times = sorted(known)
        broken = {a + GRIDS[window] for a, b in pairwise(times) if b - a > GRIDS[window]}
        assert broken or window == "30 days"
        sql = next(panel for panel in PANELS if panel["title"] == title)["targets"][0]["rawSql"]
        types, found = run(reader, sql, window=window, min_labels="1")
        lines = lines_of(Result(list(types), [list(row.values()) for row in found]))
        line = dict(next(iter(lines.values())))
        assert set(line) == set(times) | broken, title
        assert {at for at, value in line.items() if value is None} == broken | {
            at for at in times if known[at] is None
        }, title


def events_at(moments: list[datetime]) -> dict[Topic, list[dict[str, Any]]]:
    inferences, labels = [], []
    for number, moment in enumerate(moments):
        inferences.append({
            "request_id": f"r{number}", "event_time": moment.isoformat(), "model": MODEL,
            "model_version": "v1", "prediction": "yes", "score": 0.1 * (number % 10),
            "latency_ms": 5,
        })  # fmt: skip
        labels.append({
            "feedback_id": f"f{number}", "request_id": f"r{number}",
            "event_time": moment.isoformat(), "label": ["yes", "no"][number // 2 % 2],
        })  # fmt: skip
    return {"inference": inferences, "feedback": labels}


def test_legends_do_not_add_up_windows_that_overlap() -> None:
    """Every panel by windows may be asked for windows that slide."""
    for panel in PANELS:
        if "${window}" in panel["targets"][0]["rawSql"]:
            assert set(panel["options"]["legend"]["calcs"]) <= {"lastNotNull", "mean"}


@pytest.mark.usefixtures("filled")
def test_tables_say_what_null_means(reader: Engine) -> None:
    """Not what the panel says when it has no rows."""
    for panel in PANELS:
        if panel["type"] == "table":
            types, _ = run(reader, panel["targets"][0]["rawSql"])
            assert {show(None, field_of(panel, name)) for name in types} == {"–"}, panel["title"]


def test_no_special_character_reaches_a_query_or_a_link() -> None:
    """`sqlstring` quotes for MySQL, and links are decoded: only keys may stand in them."""
    text = json.dumps(DASHBOARD)
    assert ":sqlstring" not in text and ":raw" not in text
    for panel in [*PANELS, {"targets": [DASHBOARD["annotations"]["list"][0]["target"]]}]:
        for sql in targets(panel):
            for _, after in pairwise(sql.split("${model}")):
                assert after.startswith("', 'hex'), 'utf8')")


def test_risingwave_takes_what_the_dashboard_asks() -> None:
    values = {"model": key_of(MODEL), "window": "1 day", "min_labels": "20"}
    asked = [sql for panel in PANELS for sql in targets(panel)]
    asked += [note["target"]["rawSql"] for note in DASHBOARD["annotations"]["list"]]
    asked.append(VARIABLES["model"]["query"])
    for sql in asked:
        assert violations(interpolate(sql, values, START, END)) == []


def test_reader_cannot_look_beyond_the_marts(reader: Engine) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader.rows("select * from events.rejected")


def test_every_panel_is_bound_and_placed() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    titles = [panel["title"] for panel in PANELS]
    assert len(set(titles)) == len(titles)
    for panel in PANELS:
        title = panel["title"]
        assert panel["description"], title
        assert panel["datasource"]["uid"] == "${datasource}", title
        assert panel["targets"], title
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"], title
            assert target["rawQuery"] and target["rawSql"].strip(), title
            wanted = "time_series" if panel["type"] == "timeseries" else "table"
            assert target["format"] == wanted, title
    kind = VARIABLES["datasource"]["query"]
    assert {panel["datasource"]["type"] for panel in PANELS} == {kind}


def test_panels_do_not_overlap() -> None:
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    for place in places:
        assert place["x"] >= 0 and place["x"] + place["w"] <= 24
    for a, b in combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        above = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or above, (a, b)
