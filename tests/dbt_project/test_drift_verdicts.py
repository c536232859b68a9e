"""From events to alerts and the circuit breaker: healthy models run on, changes are told."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from headrace.engine import Engine
from headrace.events.contract import Event, Topic, parse
from headrace.events.log import EventLog
from tests.support.champions import promote
from tests.support.drift_oracle import Champion
from tests.support.streams import START, send


def sides(
    model: str, before: list[dict[str, Any]], after: list[dict[str, Any]], a_second: int = 1
) -> list[tuple[Topic, Event]]:
    """Predictions of a version, so many a second, and half a day later more of them."""
    rows = [*enumerate(before), *enumerate(after, start=12 * 60 * 60 * a_second)]
    return [
        (
            "inference",
            parse(
                "inference",
                {
                    "model": model,
                    "model_version": "v1",
                    "request_id": f"{model} {number}",
                    "event_time": (START + timedelta(seconds=number / a_second)).isoformat(),
                    **row,
                },
            ),
        )
        for number, row in rows
    ]


def verdicts(engine: Engine, model: str) -> tuple[dict[str, Any], dict[str, str], dict[str, Any]]:
    """The drift of the output, of each feature, and what the circuit breaker would do."""
    (output,) = engine.rows(f"select * from headrace.prediction_drift where model = '{model}'")
    features = engine.rows(f"select * from headrace.feature_drift where model = '{model}'")
    (breaker,) = engine.rows(f"select * from headrace.rollback_trigger where model = '{model}'")
    return output, {row["feature"]: row["status"] for row in features}, breaker


def test_many_classes_halt_no_healthy_model(engine: Engine, log: EventLog) -> None:
    rng = random.Random(5)
    many = {"classes77": 77, "classes150": 150, "classes300": 300}
    promote(log, {model: Champion("v1", None) for model in many})
    for model, classes in many.items():
        drawn = [f"c{rng.randrange(classes)}" for _ in range(200)]
        rows = [{"prediction": name, "features": {"of": name}} for name in drawn]
        send(log, sides(model, rows[:100], rows[100:]))
    naive = []
    for model in many:
        output, features, breaker = verdicts(engine, model)
        naive.append(output["psi"])
        assert (output["status"], features) == ("stable", {"of": "stable"})
        assert not breaker["due"] and breaker["action"] == "none"
        assert not engine.rows(f"select * from headrace.drift_summary where model = '{model}' "
                               "and (output_drift or covariate_drift)")  # fmt: skip
    assert max(naive) >= 1.0  # which psi_halt would have taken for a reason
    assert engine.rows("select * from headrace.alerts where state = 'firing' "
                       "and alert like '%drift'") == []  # fmt: skip


def test_many_classes_that_become_one_halt(engine: Engine, log: EventLog) -> None:
    rng = random.Random(6)
    promote(log, {"m": Champion("v1", None)})
    before = [{"prediction": f"c{rng.randrange(300)}"} for _ in range(500)]
    send(log, sides("m", before, [{"prediction": "c7"}] * 100))
    output, _, breaker = verdicts(engine, "m")
    assert output["status"] == "halt"
    assert (breaker["due"], breaker["action"]) == (True, "halt")


def test_numbers_with_few_values_are_seen_to_change(engine: Engine, log: EventLog) -> None:
    count = 200
    amounts = [0] * 140 + [*range(1, 61)]
    changes: dict[str, tuple[list[Any], list[Any]]] = {
        "constant": ([3] * count, [1] * count),
        "stars": ([1, 5] * 100, [1, 3] * 100),
        "amount": (amounts, [x or -1 for x in amounts]),
        "flag": ([0] * 10 + [1] * 190, [0] * 190 + [1] * 10),
        "nothing": ([None] * count, [*range(count)]),
        "same": ([1, 5] * 100, [5, 1] * 100),
    }
    before, after = (
        [
            {"score": score, "features": {name: pair[side][i] for name, pair in changes.items()}}
            for i in range(count)
        ]
        for side, score in enumerate((0.99995, 0.0))
    )
    promote(log, {"m": Champion("v1", None)})
    send(log, sides("m", before, after))
    output, features, breaker = verdicts(engine, "m")
    assert features == {name: "stable" if name == "same" else "drifted" for name in changes}
    assert (output["status"], breaker["action"], breaker["due"]) == ("halt", "halt", True)
    firing = engine.rows("select subject from headrace.alerts where state = 'firing' "
                         "and alert = 'feature_drift'")  # fmt: skip
    assert {row["subject"] for row in firing} == changes.keys() - {"same"}
    (trigger,) = engine.rows("select psi, drifted_features from headrace.retrain_trigger")
    assert trigger["drifted_features"] == 5 and trigger["psi"] > 1


def test_what_is_new_in_every_row_has_not_moved(engine: Engine, log: EventLog) -> None:
    values: dict[str, Callable[[int], Any]] = {
        "order_id": lambda i: f"order {i}",
        "order_id of most": lambda i: f"order {i}" if i % 10 else None,
        "plan": lambda i: "pro" if i < 200 else f"plan {i}",
        "segment_features__labels_30d": lambda i: i,
        "user_features__events_1h": lambda i: i,
        "count": lambda i: i,
    }
    rows = [{"features": {name: draw(i) for name, draw in values.items()}} for i in range(400)]
    send(log, sides("m", rows[:200], rows[200:]))
    features = verdicts(engine, "m")[1]
    assert features == {
        "order_id": "identifier",
        "order_id of most": "identifier",
        "plan": "drifted",
        "count": "drifted",
    }
    firing = engine.rows("select subject from headrace.alerts where alert = 'feature_drift'")
    assert {row["subject"] for row in firing} == {"plan", "count"}
    (trigger,) = engine.rows("select drifted_features from headrace.retrain_trigger")
    assert trigger["drifted_features"] == 2


def test_identifiers_that_repeat_have_not_moved(engine: Engine, log: EventLog) -> None:
    rng = random.Random(9)
    count = 1_000
    open_sessions = [*range(5)]

    def session(_: int) -> str:
        place = rng.randrange(5)
        if rng.random() < 1 / 3:
            open_sessions[place] = max(open_sessions) + 1
        return f"session {open_sessions[place]}"

    def zipf(levels: int) -> str:
        return f"level {int((levels + 1) ** rng.random())}"

    values: dict[str, Callable[[int], Any]] = {
        "session": session,
        "sku": lambda _: zipf(2_000),
        "intent": lambda _: f"intent {rng.randrange(150)}",
        "sku of a new shop": lambda i: zipf(2_000) + (" new" if i >= count else ""),
        "plan": lambda i: f"plan {rng.randrange(4)}" if i < count else session(i),
    }
    rows = [
        {"features": {name: draw(i) for name, draw in values.items()}} for i in range(2 * count)
    ]
    send(log, sides("m", rows[:count], rows[count:]))
    assert verdicts(engine, "m")[1] == {
        "session": "identifier",
        "sku": "stable",
        "intent": "stable",
        "sku of a new shop": "drifted",
        "plan": "drifted",
    }


def test_what_a_pane_does_not_keep_apart_is_compared_as_one(engine: Engine, log: EventLog) -> None:
    rng = random.Random(10)
    count = 3_000
    # A minute has 600 rows, so more levels than a pane keeps.
    same = [f"level {rng.randrange(1_000)}" for _ in range(2 * count)]
    fewer = [f"level {rng.randrange(1_000 if i < count else 300)}" for i in range(2 * count)]
    rows = [
        {"prediction": of, "features": {"same": of, "fewer": less}}
        for of, less in zip(same, fewer, strict=True)
    ]
    send(log, sides("m", rows[:count], rows[count:], a_second=10))
    output, features, _ = verdicts(engine, "m")
    assert features == {"same": "stable", "fewer": "drifted"} and output["status"] == "stable"
    found = engine.rows(
        "select feature, bins, reference_rows, reference_others, current_others "
        "from headrace.feature_psi order by feature"
    )
    for row in found:
        assert 256 < row["bins"] < 700
        assert 0.3 * count < row["reference_others"] < 0.6 * count
    (kinds,) = engine.rows(
        "select sum(predictions)::bigint as n, count(*) as bins, "
        "sum(case when bin = 'string' then predictions end)::bigint as others "
        "from headrace.feature_reference where feature = 'same'"
    )
    same_row = next(row for row in found if row["feature"] == "same")
    assert (kinds["n"], kinds["others"]) == (count, same_row["reference_others"])


def test_numbers_that_move_within_the_bins_of_psi_are_moving(engine: Engine, log: EventLog) -> None:
    rng = random.Random(8)
    count = 2000
    # A tenth of all scores and numbers moves from below the middle to above it, evenly.
    draws = [rng.random() for _ in range(2 * count)]
    moved = [x + 0.5 if x < 0.5 and rng.random() < 0.24 else x for x in draws[count:]]
    before, after = (
        [{"score": x, "features": {"number": x}} for x in side] for side in (draws[:count], moved)
    )
    send(log, sides("m", before, after))
    output, features, _ = verdicts(engine, "m")
    assert features == {"number": "moving"} and output["status"] == "moving"
    assert output["score_psi_excess"] < 0.1 <= output["ks"]


def test_numbers_that_move_within_a_bucket_of_the_sketch_are_seen(
    engine: Engine, log: EventLog
) -> None:
    rng = random.Random(9)
    changes: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "pressure": (lambda: rng.gauss(997, 1.5), lambda: rng.gauss(1008, 1.5)),
        "hpa": (lambda: rng.gauss(1013, 8), lambda: rng.gauss(1020, 8)),
        "latitude": (lambda: rng.gauss(48.137, 0.02), lambda: rng.gauss(48.16, 0.02)),
        "depth": (lambda: rng.gauss(-997, 1.5), lambda: rng.gauss(-1008, 1.5)),
        "year": (lambda: rng.randint(2018, 2021), lambda: rng.randint(2020, 2023)),
        "temperature": (lambda: round(rng.gauss(36.6, 0.4), 1), lambda: 37.4),
        "constant": (lambda: 100, lambda: 100.5),
        "with zeros": (
            lambda: rng.choice([0, rng.gauss(997, 1.5)]),
            lambda: rng.choice([0, rng.gauss(1008, 1.5)]),
        ),
        "same pressure": (lambda: rng.gauss(997, 1.5), lambda: rng.gauss(997, 1.5)),
        "same year": (lambda: rng.randint(2018, 2021), lambda: rng.randint(2018, 2021)),
    }
    before, after = (
        [{"features": {name: pair[side]() for name, pair in changes.items()}} for _ in range(400)]
        for side in (0, 1)
    )
    send(log, sides("m", before, after))
    assert verdicts(engine, "m")[1] == {
        name: "stable" if name.startswith("same") else "drifted" for name in changes
    }
    rows = {row["feature"]: row for row in engine.rows("select * from headrace.feature_drift")}
    assert rows["pressure"]["ks"] == 1 and rows["pressure"]["psi"] > 5
    assert abs(rows["pressure"]["wasserstein"] - 11) < 0.5
    reference = engine.rows("select * from headrace.feature_reference where feature = 'pressure'")
    assert 990 < min(row["low"] for row in reference) < max(row["high"] for row in reference) < 1004
    assert len(reference) >= 10
