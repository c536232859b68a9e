"""Versions that advance and retreat by themselves, among users whose answers are known."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from headrace.control import lifecycle
from headrace.control.conductor import Conductor, due_steps
from headrace.control.lifecycle import next_event
from headrace.engine import Engine
from headrace.events.contract import ModelEvent
from tests.support.ingesting import ingesting
from tests.support.policies import set_policies
from tests.support.rollouts import World
from tests.support.waiting import until

LADDER = {"canary_steps": "0.05, 0.2, 0.5", "min_sample": "40"}
STEPS = [("canary", 0.05), ("canary", 0.2), ("canary", 0.5)]


def test_a_better_version_climbs_to_champion(engine: Engine) -> None:
    world = World(engine, {"v1": 0.7, "v2": 0.9}, shadow_pairs="500", **LADDER)
    world.publish("v1")
    world.live(1)
    assert world.story("v1") == [("trained", None), ("promoted", None)]
    world.publish("v2")
    with Conductor(engine) as conductor:
        (step,) = conductor.take_steps()
        assert str(step) == "m v2 shadow: passed the gate"
        world.answer(100)
        assert conductor.take_steps() == []
        assert world.held_back("v2") == "100 predictions in the shadow, of at least 500"
    assert ("v2", "shadow") not in world.served
    world.live(30)
    assert world.story("v2") == [
        ("trained", None), ("shadow", None), *STEPS, ("promoted", None)
    ]  # fmt: skip
    assert world.champion() == "v2"
    (told,) = engine.rows(
        "select reason, metrics -> 'rollout' as numbers from events.model_events "
        "where model_version = 'v2' and event = 'promoted'"
    )
    assert told["reason"].startswith("canary at 50.0 %: higher reward, share 0.")
    assert told["numbers"]["champion_version"] == "v1"
    assert told["numbers"]["labels"] >= 40 and told["numbers"]["difference"] > 0


def test_a_worse_version_never_gets_more_than_its_step(engine: Engine) -> None:
    world = World(engine, {"v1": 0.9, "v2": 0.6}, **LADDER)
    world.publish("v1", "promoted")
    world.publish("v2")
    world.live(25)
    assert world.story("v2")[:2] == [("trained", None), ("canary", 0.05)]
    assert world.story("v2")[-1] == ("rolled_back", None)
    assert max(share or 0 for _, share in world.story("v2")) <= 0.05
    assert world.champion() == "v1"
    (told,) = engine.rows(
        "select reason, metrics -> 'rollout' as numbers from events.model_events "
        "where event = 'rolled_back'"
    )
    numbers = told["numbers"]
    assert told["reason"] == (
        f"canary: lower reward, share {numbers['mean_reward']:.3f} "
        f"against {numbers['champion_mean_reward']:.3f}; back to v1"
    )
    assert numbers["canary_predictions"] == world.served["v2", "canary"]
    assert 0 < numbers["labels"] <= numbers["canary_predictions"]


def test_a_version_that_fails_is_taken_back_from_any_place(engine: Engine) -> None:
    world = World(engine, {"v1": 0.9, "v2": 0.9, "v3": 0.9}, rollback_window="1 hour")
    world.fails = {"v2": 0.5, "v3": 0.5}
    world.publish("v1", "promoted")
    world.live(1)
    world.publish("v2", "promoted")
    world.live(3)
    assert world.story("v2")[-1] == ("rolled_back", None)
    assert world.champion() == "v1"
    world.publish("v3", "canary", traffic=0.4)
    world.live(3)
    assert world.story("v3")[-1] == ("rolled_back", None)
    assert world.champion() == "v1"


def test_a_champion_is_taken_back_where_it_is_slow_and_not_where_the_machine_is(
    engine: Engine,
) -> None:
    world = World(engine, {"v1": 0.9, "v2": 0.9, "v3": 0.9}, rollback_window="10 minutes")
    world.slow = {"v2": 0.3}
    world.publish("v1", "promoted")
    world.live(6)
    world.publish("v2", "promoted")
    world.live(2)
    assert world.story("v2") == [("promoted", None), ("rolled_back", None)]
    (told,) = engine.rows("select * from events.model_events where event = 'rolled_back'")
    assert told["reason"].startswith("slow answers to ")
    assert told["reason"].endswith(" % of predictions, 0.0 % with v1; back to v1")
    assert told["metrics"]["rollout"]["slow_rate"] == pytest.approx(0.3, abs=0.1)
    world.slow = {"v1": 0.3, "v3": 0.3}
    world.live(6)
    world.publish("v3", "promoted")
    world.live(6)
    (found,) = engine.rows("select * from headrace.champion_latency")
    assert found["slow_rate"] > 0.2 and found["earlier_slow_rate"] > 0.2
    assert world.champion() == "v3"


def test_worse_in_the_shadow_is_never_served(engine: Engine) -> None:
    world = World(engine, {"v1": 0.9, "v2": 0.5}, shadow_pairs="200", **LADDER)
    world.publish("v1", "promoted")
    world.publish("v2")
    world.live(4)
    assert world.story("v2") == [("trained", None), ("shadow", None), ("rolled_back", None)]
    assert not any(version == "v2" for version, _ in world.served)


def test_people_win(engine: Engine) -> None:
    world = World(engine, {"v1": 0.9, "v2": 0.9, "v3": 0.9}, **LADDER)
    world.publish("v1", "promoted")
    set_policies(engine, "m", rollout="paused")
    world.publish("v2")
    world.live(2)
    assert world.held_back("v2") == "paused: headrace rollout m --resume"
    set_policies(engine, "m", rollout="on")
    with Conductor(engine) as conductor:
        (seen,) = due_steps(engine)
        world.tell("v2", "retired")
        assert not conductor._take(seen)
        assert conductor.take_steps() == []
    world.publish("v3", "canary", traffic=0.5)
    world.tell("v3", "promoted")
    assert world.champion() == "v3"
    set_policies(engine, "m", rollout="pinned")
    world.fails = {"v3": 1.0}
    world.live(3)
    assert world.champion() == "v3"


def test_a_person_wins_over_a_step_that_is_taken_meanwhile(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(engine, {"v1": 0.9, "v2": 0.9}, **LADDER)
    world.publish("v1", "promoted")
    world.publish("v2")
    conductors = 0

    def after_the_conductor(*arguments: Any, **fields: Any) -> ModelEvent:
        nonlocal conductors
        event = next_event(*arguments, **fields)
        if conductors == 0:
            with Conductor(engine) as conductor:
                conductors += len(conductor.take_steps())
        return event

    monkeypatch.setattr(lifecycle, "next_event", after_the_conductor)
    lifecycle.promote(engine, "m", "v2", traffic=0.01)
    assert conductors == 1
    assert world.story("v2") == [("trained", None), ("canary", 0.05), ("canary", 0.01)]
    (row,) = engine.rows("select traffic from headrace.serving_plan where model_version = 'v2'")
    assert row["traffic"] == 0.01


def test_what_is_overtaken_or_undecided_is_retired(engine: Engine) -> None:
    world = World(engine, {"v1": 0.9, "v2": 0.9, "v3": 0.9, "v4": 0.9},
                  rollout_patience="1 hour", **LADDER)  # fmt: skip
    world.publish("v1", "promoted")
    world.publish("v2")
    world.live(1)
    world.publish("v3", "promoted")
    world.live(1)
    assert world.story("v2") == [("trained", None), ("canary", 0.05), ("retired", None)]
    world.publish("v4")
    world.live(8, requests=20)
    assert world.story("v4") == [("trained", None), ("canary", 0.05), ("retired", None)]


def test_training_waits_for_the_rollout_and_after_a_rollback_for_evidence(engine: Engine) -> None:
    world = World(engine, {"v1": 0.9, "v2": 0.5}, min_new_labels="300", **LADDER)
    world.publish("v1", "promoted")
    world.publish("v2")
    held: list[str] = []
    labels: list[int] = []
    with Conductor(engine) as conductor:
        while "due" not in held and len(held) < 30:
            conductor.take_steps()
            world.answer(200)
            (row,) = engine.rows("select * from headrace.retrain_trigger")
            held.append(row["held_back_by"] or ("due" if row["due"] else ""))
            labels.append(row["new_labels"])
    waited = held.index("", held.index("v2 is on its way: headrace rollouts"))
    assert labels[waited - 1] > 300 > labels[waited] >= 200
    assert held[waited:] == ["", "due"] and labels[-1] >= 300


def test_of_several_conductors_each_step_is_taken_once(engine: Engine) -> None:
    world = World(engine, {"v1": 0.9, "v2": 0.9}, **LADDER)
    world.publish("v1", "promoted")
    world.publish("v2")
    taken = world.raced(4)
    assert len(taken) == 1
    assert world.story("v2") == [("trained", None), ("canary", 0.05)]
    assert engine.rows("select * from events.conflicts") == []


def test_through_kafka_a_step_is_sent_once(kafka_engine: Engine) -> None:
    direct = Engine(kafka_engine.dsn, replace(kafka_engine.settings, kafka=""))
    world = World(direct, {"v1": 0.9, "v2": 0.9}, **LADDER)
    world.publish("v1", "promoted")
    world.publish("v2")
    with Conductor(kafka_engine) as conductor:
        assert len(conductor.take_steps()) == 1
        assert conductor.take_steps() == []  # it is under way
        with ingesting(kafka_engine):
            until(lambda: len(world.story("v2")) == 2)
        assert world.story("v2") == [("trained", None), ("canary", 0.05)]
        assert conductor.take_steps() == []


def test_a_kill_at_any_moment_leaves_one_story(engine: Engine) -> None:
    world = World(engine, {"v1": 0.9, "v2": 0.9}, shadow_pairs="1")
    world.publish("v1", "promoted")
    world.publish("v2")
    for moment in ("decided", "written", "committed"):
        home = str(engine.settings.home)
        command = [sys.executable, "-m", "tests.support.doomed_conductor", engine.dsn, home, moment]
        assert subprocess.run(command).returncode == -signal.SIGKILL
        stored = [("shadow", None)] if moment == "committed" else []
        assert world.story("v2") == [("trained", None), *stored]
    with Conductor(engine) as conductor:
        assert conductor.take_steps() == []


@pytest.mark.parametrize("value", ["0.5, 0.1", "1", "0", "0.1,", "10 %", "0.2, 0.2", "-.1", "x"])
def test_shares_that_do_not_rise_are_refused(engine: Engine, value: str) -> None:
    import psycopg

    from headrace.control import policies
    from headrace.errors import ContractError

    with pytest.raises(ContractError, match="canary_steps: must be rising shares"):
        policies.write(engine, "m", {"canary_steps": value})
    with pytest.raises(psycopg.errors.CheckViolation, match="must be rising shares"):
        set_policies(engine, "m", canary_steps=value)
