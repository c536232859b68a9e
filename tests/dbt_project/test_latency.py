"""How slow champions are beside the versions before them: a naive recompute."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta

from hypothesis import given

from headrace.engine import Engine
from headrace.events.contract import Inference, ModelEvent
from headrace.events.log import EventLog
from tests.support.always_valid import always_valid_p
from tests.support.canary_oracle import is_slow
from tests.support.label_oracle import utc
from tests.support.oracle import Oracle
from tests.support.rewards import EXAMPLES, Row, Story, floor, in_order, same, stories, wilson
from tests.support.stored import empty

HOUR, DAY = 3_600, timedelta(days=1)


def slow_of(events: list[Inference]) -> tuple[int, int]:
    """How many of them were slow, and how many there are."""
    return sum(is_slow(event.latency_ms or 0) for event in events), len(events)


def latencies(oracle: Oracle, told: list[ModelEvent]) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    for model in {event.model for event in oracle.inference.values()}:
        latest = {life.model_version: life for life in in_order(told) if life.model == model}
        led = in_order(life for life in latest.values() if life.event == "promoted")
        if len(led) < 2:
            continue
        champion, before, at = led[-1].model_version, led[-2].model_version, utc(led[-1].event_time)
        clock = oracle.clock(model)
        timed = [
            event
            for event in oracle.of(model)
            if event.latency_ms is not None and event.variant != "shadow"
        ]
        of = {name: [e for e in timed if e.model_version == name] for name in (champion, before)}
        since = [e for e in of[champion] if floor(at, HOUR) <= utc(e.event_time)]
        since = [e for e in since if floor(utc(e.event_time), HOUR) < at + DAY]
        window = floor(clock - timedelta(minutes=2), 10)
        now = [e for e in of[champion] if window <= utc(e.event_time) <= clock]
        hours: dict[object, list[Inference]] = defaultdict(list)
        for event in of[before]:
            hour = floor(utc(event.event_time), HOUR)
            if floor(at, HOUR) - DAY <= hour < at + DAY:
                hours[hour].append(event)
        if not (since or now or hours):
            continue
        row: Row = {"model_version": champion, "earlier_version": before, "promoted_at": at}
        row["earlier_hour"] = max(
            hours,
            key=lambda h: (
                (wilson(*slow_of(hours[h]))[0] if slow_of(hours[h])[0] else 0),
                len(hours[h]),
                h,
            ),
            default=None,
        )
        sides = {"": since, "latest_": now, "earlier_": hours[row["earlier_hour"]]}
        for prefix, events in sides.items():
            slow, number = slow_of(events)
            row |= {f"{prefix}slow": slow, f"{prefix}timed": number}
            row[f"{prefix}slow_rate"] = slow / number if number else None
        row["slow_always_valid_p_value"] = None
        if since and sides["earlier_"]:
            case = (*slow_of(since), *slow_of(sides["earlier_"]))
            row["slow_always_valid_p_value"] = float(always_valid_p(case, 0.1))
        rows[model] = row
    return rows


@EXAMPLES
@given(story=stories())
def test_champion_latency(engine: Engine, log: EventLog, story: Story) -> None:
    empty(engine)
    story.govern(engine)

    def check(oracle: Oracle) -> None:
        actual = {
            row["model"]: row for row in engine.rows("select * from headrace.champion_latency")
        }
        wanted = latencies(oracle, story.lives)
        assert actual.keys() == wanted.keys()
        for model, want in wanted.items():
            same(actual[model], want)

    story.tell(log, check)
