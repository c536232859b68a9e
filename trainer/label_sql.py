"""The SQL that makes labels: rendered from the dbt project, which is the only place that has it.

The views apply it to everything, a training set to what was known at its claim.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

from jinja2 import Environment

from headrace.settings import project_path

_MACROS = (
    "pane/labels.sql",
    "pane/requests.sql",
    "pane/classes.sql",
    "engine/exact_numbers.sql",
    "engine/number_text.sql",
    "engine/session_time.sql",
)
_FEEDBACK = "models/staging/stg_feedback.sql"
_PREFERENCES = "models/panes/preferences.sql"


@cache
def staged_feedback(engine: str, feedback: str) -> str:
    """Return the query of feedback and the labels that it implies.

    Args:
        engine: name of the dialect.
        feedback: relation with the columns of ``events.feedback``.
    """
    environment = _environment(engine)
    environment.globals["source"] = lambda *_: feedback
    text = (project_path("dbt_project") / _FEEDBACK).read_text()
    return environment.from_string(text).render()


@cache
def preferences(engine: str, inference: str, feedback: str) -> str:
    """Return the query of the pane `preferences` over other relations than the events."""
    environment = _environment(engine)
    relations = {"inference": inference, "feedback": feedback}
    environment.globals["source"] = lambda _, name: relations[name]
    text = (project_path("dbt_project") / _PREFERENCES).read_text()
    return environment.from_string(text).render()


@cache
def chosen_labels(
    engine: str,
    inference: str,
    feedback: str,
    policies: str,
    terms: str | None = None,
    as_of: bool = False,
    heard: str | None = None,
) -> str:
    """Return the query of the labels of predictions; the arguments are those of the macro."""
    return str(_macros(engine).chosen_labels(inference, feedback, policies, terms, as_of, heard))


@cache
def label_terms(engine: str, clocks: str, policies: str) -> str:
    """Return the query of what silence says; the arguments are those of the macro."""
    return str(_macros(engine).label_terms(clocks, policies))


@cache
def is_about(engine: str, feedback: str, inference: str) -> str:
    """Return the condition that feedback is about a prediction of its request."""
    return str(_macros(engine).is_about(feedback, inference))


@cache
def is_same_prediction(engine: str, one: str, other: str) -> str:
    """Return the condition that two rows of one request are of the same prediction."""
    return str(_macros(engine).is_same_prediction(one, other))


def _macros(engine: str) -> Any:
    return _environment(engine).globals["headrace"]


def _environment(engine: str) -> Environment:
    """What dbt gives to macros, as far as those of labels use it."""
    macros: Any = SimpleNamespace()
    environment = Environment()
    adapter = SimpleNamespace(dispatch=lambda name, _: getattr(macros, f"{engine}__{name}"))
    environment.globals.update(
        {
            "headrace": macros,
            "adapter": adapter,
            "return": lambda value: value,
            "config": lambda **_: "",
            "ref": lambda name: name,
        }
    )
    for file in _MACROS:
        text = (project_path("dbt_project") / "macros" / file).read_text()
        module = environment.from_string(text).module
        found = {name: macro for name, macro in vars(module).items() if not name.startswith("_")}
        vars(macros).update(found)
        environment.globals.update(found)
    return environment
