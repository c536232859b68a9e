"""What a receiver is told: an alert once, again after a while, and its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo

from headrace.alerting.notices import GIVE_UP_S, KEEP_S, SETTLE_S, Notices
from headrace.alerting.receivers import Receiver
from headrace.engine import Engine
from headrace.engine.embedded import EmbeddedPostgres
from tests.support.alerting import held, let_pass, shown, webhook

ALL = {"ours": webhook("https://x", repeat_s=3600)}


def told(notices: Notices, name: str = "ours", repeat_s: float = 3600) -> list[str]:
    """Deliver what is due; a text for each message: alert, number or end."""
    due = notices.due(name, repeat_s, 100)
    notices.told(name, due)
    assert notices.due(name, repeat_s, 100) == []
    return [f"{each.alert}{each.subject} {each.message_id.split('-')[1]}" for each in due]


def test_an_alert_is_told_once_then_after_a_while_and_at_its_end(engine: Engine) -> None:
    notices = Notices(engine)
    with held(notices) as lease:
        notices.note(ALL, [shown("errors")], lease)
        assert told(notices) == ["errors 0"]
        notices.note(ALL, [shown("errors", value=0.3), shown("latency", state="hovering")], lease)
        assert told(notices) == []
        let_pass(engine, 3601)
        (again,) = notices.due("ours", 3600, 100)
        assert again.value == 0.3
        assert told(notices) == ["errors 1"]
        notices.note(ALL, [], lease)
        let_pass(engine, SETTLE_S - 60)
        assert told(notices) == []
        notices.note(ALL, [shown("errors")], lease)  # it is back: it has not ended
        let_pass(engine, SETTLE_S + 60)
        assert told(notices) == []
        notices.note(ALL, [], lease)
        let_pass(engine, SETTLE_S + 1)
        (end,) = notices.due("ours", 3600, 100)
        assert end.ended_at and end.incident == again.incident
        assert told(notices) == ["errors end"]
        notices.note(ALL, [shown("errors")], lease)
        (another,) = notices.due("ours", 3600, 100)
        assert another.incident != again.incident
        assert told(notices) == ["errors 0"]


def test_receivers_are_told_what_they_want_and_of_what_became_critical(engine: Engine) -> None:
    receivers = {
        "all": webhook("https://x"),
        "critical": webhook("https://x", severities=("critical",)),
        "churn": webhook("https://x", models=("churn",)),
    }
    notices = Notices(engine)
    with held(notices) as lease:
        notices.note(receivers, [shown("drift", severity="warning")], lease)
        assert [told(notices, name) for name in receivers] == [["drift 0"], [], []]
        (before,) = notices.due("all", 0, 9)
        notices.note(receivers, [shown("drift")], lease)
        notices.told("all", [before])  # what it was told while the alert became critical
        assert [told(notices, name) for name in receivers] == [["drift 2"], ["drift 0"], []]
        for severity in ("warning", "critical"):
            notices.note(receivers, [shown("drift", severity=severity)], lease)
            assert [told(notices, name) for name in receivers] == [[], [], []]


def test_the_critical_come_first_and_no_more_than_asked_for(engine: Engine) -> None:
    notices = Notices(engine)
    alerts = [shown("drift", f"f{n}", severity="warning") for n in range(5)]
    with held(notices) as lease:
        notices.note(ALL, [*alerts, shown("errors")], lease)
    due = notices.due("ours", 3600, 3)
    assert [each.alert for each in due] == ["errors", "drift", "drift"]


def test_a_receiver_that_stays_away_is_given_up_and_all_is_forgotten(engine: Engine) -> None:
    notices = Notices(engine)
    with held(notices) as lease:
        notices.note(ALL, [shown("errors")], lease)
        notices.note(ALL, [], lease)
        let_pass(engine, GIVE_UP_S - 60)
        notices.note(ALL, [], lease)
        assert len(notices.due("ours", 3600, 9)) == 1
        let_pass(engine, 61)
        notices.note(ALL, [], lease)
        assert notices.due("ours", 3600, 9) == []
        assert len(engine.rows("select from control.notices")) == 1
        let_pass(engine, KEEP_S + 1)
        notices.note(ALL, [], lease)
        assert engine.rows("select from control.notices") == []


def test_without_the_lease_nothing_is_kept(engine: Engine) -> None:
    notices = Notices(engine)
    with held(notices) as lease:
        lease.give_back()
        notices.note(ALL, [shown("errors")], lease)
    assert engine.rows("select from control.notices") == []


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    looks=st.lists(st.tuples(st.sets(st.sampled_from("abc")), st.booleans()), max_size=8),
)
def test_whatever_comes_and_goes_each_alert_has_a_beginning_and_an_end(
    engine: Engine, looks: Sequence[tuple[set[str], bool]]
) -> None:
    """Told as a list of what fired would tell it, also where the receiver is away at times."""
    notices = Notices(engine, settle_s=0)
    receivers: dict[str, Receiver] = {"ours": webhook("https://x")}
    with engine.connect() as connection:
        connection.execute("truncate control.notices")
    firing: dict[str, bool] = {}  # whether its beginning was told
    ended: dict[str, bool] = {}  # and its end not yet; one that is back has not ended
    with held(notices) as lease:
        for found, is_there in [*looks, (set(), True)]:
            notices.note(receivers, [shown(alert) for alert in found], lease)
            before = firing | ended
            firing = {alert: before.get(alert, False) for alert in found}
            ended = {alert: was for alert, was in before.items() if alert not in found}
            if is_there:
                wanted = [f"{alert} end" for alert in ended]
                wanted += [f"{alert} 0" for alert, was_told in firing.items() if not was_told]
                assert sorted(told(notices)) == sorted(wanted)
                firing, ended = dict.fromkeys(firing, True), {}
        assert notices.open() == []


def test_with_risingwave_it_is_in_the_postgres_of_the_registry(
    standin: Engine, server: EmbeddedPostgres
) -> None:
    with psycopg.connect(server.dsn, dbname="postgres", autocommit=True) as admin:
        admin.execute("drop database if exists registry with (force)")
        admin.execute("create database registry")
        registry = make_conninfo(server.dsn, dbname="registry")
        beside = Engine(standin.dsn, replace(standin.settings, registry_dsn=registry))
        assert beside.dialect.name == "risingwave"
        for _ in range(2):
            notices = Notices(beside)
        with held(notices) as lease:
            notices.note(ALL, [shown("errors")], lease)
        assert told(notices) == ["errors 0"]
        assert standin.rows("select from control.notices") == []
        admin.execute("drop database registry with (force)")
