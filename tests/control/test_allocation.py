"""Shares of canaries that follow what versions earn, among users whose answers are known."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest

from headrace.control.conductor import Conductor, due_steps
from headrace.control.lifecycle import rolls_out
from headrace.engine import Engine
from tests.support.policies import set_policies
from tests.support.rollouts import World

SHARES = {"canary_allocation": "thompson", "canary_steps": "0.2, 0.8", "min_sample": "150"}


def decide(world: World, *versions: str) -> float:
    """Let users ask and the conductor act until all versions are decided.

    Returns:
        The greatest share that canaries had together.
    """
    most = 0.0
    with Conductor(world.engine) as conductor:
        for _ in range(40):
            conductor.take_steps()
            if {"canary", "trained"}.isdisjoint(world.story(name)[-1][0] for name in versions):
                break
            rows = world.engine.rows(
                "select sum(traffic) as share from headrace.serving_plan where variant = 'canary'"
            )
            most = max(most, rows[0]["share"] or 0.0)
            world.answer(400)
    return most


def shares(world: World, model_version: str) -> list[float]:
    return [share for event, share in world.story(model_version) if event == "canary" and share]


def test_a_better_version_earns_its_way_to_champion(engine: Engine) -> None:
    world = World(engine, {"v1": 0.75, "v2": 0.79}, **SHARES)
    world.publish("v1", "promoted")
    world.publish("v2")
    assert decide(world, "v2") <= 0.8
    assert world.champion() == "v2"
    assert world.story("v2")[:2] == [("trained", None), ("canary", 0.2)]
    given = shares(world, "v2")
    assert len(given) > 1 and min(given) >= 0.2 and max(given) > 0.5
    told = engine.rows(
        "select event, reason, metrics -> 'rollout' as numbers from events.model_events "
        "where model_version = 'v2' order by event_time"
    )
    assert [row["event"] for row in told if "allocation" in (row["numbers"] or {})] == (
        ["canary"] * (len(given) - 1)
    )
    assert told[-1]["event"] == "promoted" and "best with a probability of" in told[-1]["reason"]
    # What it earned at its earlier shares counts on.
    assert told[-1]["numbers"]["labels"] == world.served["v2", "canary"]
    assert told[-1]["numbers"]["best_probability"] >= 0.99


def test_a_worse_version_loses_its_share(engine: Engine) -> None:
    world = World(engine, {"v1": 0.85, "v2": 0.8}, **SHARES)
    world.publish("v1", "promoted")
    world.publish("v2", "canary", traffic=0.5)
    decide(world, "v2")
    assert world.champion() == "v1"
    assert world.story("v2")[-1] == ("rolled_back", None)
    assert min(shares(world, "v2")) < 0.3
    # With fixed halves it would have answered half of them.
    assert world.served["v2", "canary"] < 0.4 * sum(world.served.values())


def test_the_best_of_several_canaries_wins(engine: Engine) -> None:
    world = World(engine, {"v1": 0.7, "v2": 0.6, "v3": 0.82, "v4": 0.72}, **SHARES)
    world.publish("v1", "promoted")
    for version in ("v2", "v3", "v4"):
        world.publish(version, "canary", traffic=0.2)
    assert decide(world, "v2", "v3", "v4") == pytest.approx(0.8)
    assert world.champion() == "v3"
    assert world.story("v2")[-1][0] == "rolled_back"
    assert world.story("v4")[-1][0] in ("retired", "rolled_back")


def test_a_share_rests_for_step_time_and_people_win(engine: Engine) -> None:
    world = World(engine, {"v1": 0.7, "v2": 0.74}, step_time="1 hour", **SHARES)
    assert not rolls_out(engine, "m")  # no champion yet
    world.publish("v1", "promoted")
    assert rolls_out(engine, "m")
    world.publish("v2")
    decide(world, "v2")
    times = engine.rows(
        "select event_time from events.model_events "
        "where model_version = 'v2' and event in ('canary', 'promoted') order by event_time"
    )
    steps = [row["event_time"] for row in times]
    assert len(steps) > 1
    assert all(b - a >= timedelta(hours=1) for a, b in pairwise(steps))
    world.publish("v3", "canary", traffic=0.5)
    world.right["v3"] = 0.1
    set_policies(engine, "m", rollout="pinned")
    world.live(2)
    assert world.story("v3") == [("canary", 0.5)]
    assert world.held_back("v3") == "pinned: headrace rollout m --resume"


def test_a_share_set_by_hand_begins_anew(engine: Engine) -> None:
    world = World(engine, {"v1": 0.7, "v2": 0.75}, **SHARES)
    world.publish("v1", "promoted")
    world.publish("v2")
    world.live(4)
    assert len(shares(world, "v2")) > 1
    world.clock += timedelta(minutes=1)  # labels are counted by the minute
    world.tell("v2", "canary", traffic=0.3)
    (row,) = engine.rows("select labels, began_at from headrace.canary_verdict")
    assert row["labels"] == 0 and row["began_at"] == world.clock
    world.answer(100)
    held = world.held_back("v2")
    assert held and held.endswith(" labels as a canary, of at least 150")


def test_of_two_conductors_a_share_is_moved_once(engine: Engine) -> None:
    world = World(engine, {"v1": 0.75, "v2": 0.75}, **SHARES)
    world.publish("v1", "promoted")
    world.publish("v2")
    world.live(1)
    while not due_steps(engine):
        world.answer(400)
    assert due_steps(engine)[0].event == "canary"
    before = len(world.story("v2"))
    taken = world.raced(2)
    assert len(taken) == 1 and len(world.story("v2")) == before + 1
    assert engine.rows("select * from events.conflicts") == []
