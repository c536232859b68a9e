"""How far a run is told, to a person and in a view."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from headrace.control.claims import Claim
from headrace.engine import Engine
from headrace.trainer.progress import RunProgress, kept_in
from tests.support.promising import taken
from tests.support.standin import grow_old


def test_what_is_left_follows_from_what_was_done() -> None:
    rows: list[Mapping[str, Any]] = []
    lines: list[str] = []
    now = 100.0
    told = RunProgress(lines.append, rows.append, lambda: now)
    told.stage("fit", 1_000)
    for step in range(1, 101):
        now += 0.5
        told(step, 100, 1 / step)
    assert [row["step"] for row in rows] == [None, *range(4, 101, 4)]
    (half,) = (row for row in rows if row["step"] == 48)
    assert half["examples_per_s"] == pytest.approx(20)
    assert half["eta_s"] == pytest.approx(26)
    assert lines[11] == "fit: step 48 of 100, loss 0.021, 26 s left"


def test_a_quick_recipe_tells_its_last_step_only() -> None:
    lines: list[str] = []
    told = RunProgress(lines.append)
    told.stage("fit", 10)
    for step in range(1, 10_001):
        told(step, 10_000)
    assert lines == ["fit: step 10,000 of 10,000"]


def test_the_view_shows_the_run_and_who_took_it_over(engine: Engine, held: Claim) -> None:
    told = RunProgress(lambda _: None, kept_in(engine, held))
    told.stage("fit", 1_000)
    told(3, 3, 0.5)
    query = "select attempt, status, stage, step, steps, loss from headrace.training_runs"
    first = {"attempt": 1, "stage": "fit", "step": 3, "steps": 3, "loss": 0.5}
    assert engine.rows(query) == [{**first, "status": "running"}]
    grow_old(engine)
    RunProgress(lambda _: None, kept_in(engine, taken(engine, "heir"))).stage("compile")
    assert engine.rows(f"{query} order by attempt") == [
        {**first, "status": "taken over"},
        {"attempt": 2, "status": "running", "stage": "compile", "step": None, "steps": None,
         "loss": None},
    ]  # fmt: skip


def test_a_database_that_is_away_stops_no_run(engine: Engine, held: Claim) -> None:
    away = Engine("host=127.0.0.1 port=1 connect_timeout=1", engine.settings)
    RunProgress(lambda _: None, kept_in(away, held)).stage("fit")
