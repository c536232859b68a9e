"""The brief, and the marks that travel from it into the view of the loop's latency."""

from __future__ import annotations

import re
from dataclasses import fields

from headrace.settings import project_path
from headrace.trainer.brief import Marks

VIEW = project_path("dbt_project") / "models" / "marts" / "feedback_loop_latency.sql"


def test_the_view_reads_the_marks_and_no_other_metric() -> None:
    (listed,) = re.findall(r"for step in \[(.*?)\]", VIEW.read_text(), re.DOTALL)
    assert re.findall(r"'(\w+)'", listed) == [field.name for field in fields(Marks)]


def test_each_stage_of_the_view_is_between_marks() -> None:
    stages = re.findall(r"\(\d+, '\w+', '(\w+)', '(\w+)'\)", VIEW.read_text())
    known = {field.name for field in fields(Marks)} | {"published_at", "served_at"}
    assert {end for stage in stages for end in stage} == known


def test_what_was_not_reached_is_no_metric() -> None:
    marks = Marks(claimed_at=1.5)
    assert marks.metrics() == {"claimed_at": 1.5}
    assert marks.reached("gated_at").metrics().keys() == {"claimed_at", "gated_at"}
