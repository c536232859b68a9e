"""The functions that keep panes use one plan, whatever the size of a batch."""

from __future__ import annotations

from headrace.engine import Engine
from headrace.settings import project_path

PLANNED = """
select
    count(*) as functions,
    count(*) filter (where 'plan_cache_mode=force_generic_plan' = any(proconfig)) as kept
from pg_proc
where pronamespace = 'panes'::regnamespace and prorettype = 'trigger'::regtype
"""


def test_the_plans_of_panes_are_kept_also_of_those_of_an_earlier_version(engine: Engine) -> None:
    (made,) = engine.rows(PLANNED)
    assert made["functions"] == made["kept"] > 50
    with engine.connect() as connection:
        function = "panes.labels__events_feedback_insert()"
        connection.execute(f"alter function {function} reset plan_cache_mode")
        assert engine.rows(PLANNED) == [{**made, "kept": made["kept"] - 1}]
        file = project_path("sql") / "postgres" / "006_deploy.sql"
        engine.dialect.apply(connection, file, engine.settings)
    assert engine.rows(PLANNED) == [made]
