"""A stand-in for RisingWave, on a PostgreSQL with all tables and views.

The code under test is `headrace.engine.risingwave`; what is replaced is the edge: what its cursors
send that PostgreSQL does not have (`flush`, the mode of visibility), and the tables whose rows take
each other's places by themselves. Nothing here tells whether RisingWave does what it is asked; what
is asked is kept and checked against the rules of docs/engines.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from sqlglot.dialects.risingwave import RisingWave as Tokens

from headrace.engine import Engine
from headrace.engine.patience import PatientCursor
from tests.support.risingwave_words import (
    WALL_CLOCK,
    absent,
    arrays,
    endless,
    functions,
    intervals,
    limits,
    types,
    words,
)

# The engine is asked whether a text of somebody's is an interval.
_ASKS = re.compile(r"select '(?:[^']|'')*'::interval between ")
# What PostgreSQL need not do, or cannot.
_LEFT_OUT = ("flush", "set visibility_mode")
# What a statement of ours must not hold, beside what `absent` refuses in views.
_FORBIDDEN = {
    "listen", "notify", "copy", "savepoint", "rollback", "advisory", "pg_advisory_lock",
    "pg_advisory_xact_lock", "returning", "set_config", "analyze", "do", "prepare", "unlisten",
    "declare", "search_path", "statement_timeout",
}  # fmt: skip
# What a connection of psycopg may not be asked for.
_METHODS = {
    "cursor": "a named cursor: RisingWave has none but for subscriptions",
    "pipeline": "a pipeline",
    "notifies": "notifies: nothing tells of changes",
}
# Functions of PostgreSQL that reach a table's own clock; `now` and `proctime` are RisingWave's.
_CLOCKS = WALL_CLOCK - {"now", "proctime"}
# Parentheses that call nothing: columns of a table, of an INSERT, and of a list of values.
_COLUMNS = re.compile(
    r"(insert into [\w.\"]+|create table (?:if not exists )?[\w.]+|\bas \w+)\s*\([^()]*\)"
)
# Strings with backslashes, which the tokenizer takes for words.
_ESCAPED = re.compile(r"\bE'(?:[^'\\]|''|\\.)*'")

# A key's first row stays.
_FIRST_WINS = """
create function control.first_wins_{table}() returns trigger language plpgsql as $$
begin
    perform pg_advisory_xact_lock(42);
    if exists (select 1 from control.{table} as stored where ({stored}) = ({new})) then
        return null;
    end if;
    return new;
end
$$;
create trigger first_wins before insert on control.{table}
for each row execute function control.first_wins_{table}();
"""
# A key's last row takes the place of the one before.
_LAST_WINS = """
create function control.last_wins_{table}() returns trigger language plpgsql as $$
begin
    perform pg_advisory_xact_lock(43);
    delete from control.{table} as stored where ({stored}) = ({new});
    return new;
end
$$;
create trigger last_wins before insert on control.{table}
for each row execute function control.last_wins_{table}();
"""
_FIRST_KEYS = {
    "attempts": ("trigger_id", "attempt"),
    "due_triggers": ("trigger_id",),
    "reviews": ("prediction_id", "attempt", "step"),
}
_LAST_KEYS = {
    "heartbeats": ("trigger_id", "attempt"),
    "policy_kinds": ("policy",),
    "policies": ("model", "policy"),
    "label_policies": ("model", "kind"),
    "datasets": ("dataset_id",),
    "deployed": ("name",),
    "topic_ends": ("topic", "partition"),
    "trigger_history": ("trigger_id", "obstacle"),
    "training_progress": ("run_id", "attempt"),
    "load_failures": ("gateway", "model", "model_version", "variant"),
    "alert_log": ("model", "alert", "subject", "since"),
}
# control.claims of sql/risingwave, which has no foreign keys either.
_CLAIMS = """
alter table control.policies drop constraint policies_policy_fkey;
create table control.attempts (
    trigger_id text, attempt int, model text, worker text, run_id text,
    claimed_at timestamptz, known_at timestamptz, event_clock timestamptz,
    primary key (trigger_id, attempt)
);
create table control.heartbeats (
    trigger_id text, attempt int, heartbeat_at timestamptz, finished_at timestamptz,
    primary key (trigger_id, attempt)
);
create table control.due_triggers (
    trigger_id text primary key, model text, model_version text, reason text, new_labels bigint,
    examples bigint, first_new_label_at timestamptz, seen_at timestamptz default now()
);
select control.replace_view('control.claims', '
    with latest as (
        select distinct on (trigger_id) *
        from control.attempts
        order by trigger_id, attempt desc
    )
    select
        latest.trigger_id, latest.model, latest.worker, latest.run_id, latest.attempt,
        latest.claimed_at,
        coalesce(heartbeats.heartbeat_at, latest.claimed_at) as heartbeat_at,
        latest.known_at, latest.event_clock, heartbeats.finished_at
    from latest
    left join control.heartbeats as heartbeats
        on latest.trigger_id = heartbeats.trigger_id and latest.attempt = heartbeats.attempt
');
"""


def _tables() -> str:
    text = _CLAIMS
    for body, keys in ((_FIRST_WINS, _FIRST_KEYS), (_LAST_WINS, _LAST_KEYS)):
        for table, key in keys.items():
            stored, new = (
                ", ".join(f"{side}.{column}" for column in key) for side in ("stored", "new")
            )
            text += body.format(table=table, stored=stored, new=new)
    return text


@contextmanager
def standing_in(engine: Engine) -> Iterator[Engine]:
    """Return an engine of RisingWave's dialect on the database of a PostgreSQL engine.

    Raises at its end:
        AssertionError: a statement was sent that RisingWave would refuse.
    """
    with engine.connect() as connection:
        connection.execute(_tables())
    sent: list[str] = []
    found: set[str] = set()

    class Cursor(PatientCursor):
        def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
            text = self.mogrify(query, params)
            sent.append(text)
            found.update(misuse(self.connection, query, params))
            if text.startswith(_LEFT_OUT):
                query, params = "select 1", None
            return super().execute(query, params, **options)

        def executemany(self, query: Any, params_seq: Any, *, returning: bool = False) -> None:
            found.add(f"executemany is a pipeline: {query}")
            super().executemany(query, params_seq, returning=returning)

        def copy(self, statement: Any, *arguments: Any, **options: Any) -> Any:
            sent.append(self.mogrify(statement))
            return super().copy(statement, *arguments, **options)

    def noting(method: str, problem: str) -> Callable[..., Any]:
        """Return a method of connections that notes a problem where it is one of RisingWave's."""
        kept = getattr(psycopg.Connection, method)

        def noted(connection: Any, *arguments: Any, **named: Any) -> Any:
            is_named = bool(arguments or named.get("name"))
            if connection.cursor_factory is Cursor and (method != "cursor" or is_named):
                found.add(problem)
            return kept(connection, *arguments, **named)

        return noted

    settings = replace(engine.settings, engine="risingwave", registry_dsn=engine.dsn)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("headrace.engine.risingwave.PatientCursor", Cursor)
        for method, problem in _METHODS.items():
            patch.setattr(psycopg.Connection, method, noting(method, problem))
        yield Engine(engine.dsn, settings)
    found |= {problem for text in sent for problem in violations(text)}
    assert not found, sorted(found)


def misuse(connection: psycopg.Connection[Any], query: Any, params: Any) -> list[str]:
    """Return what RisingWave would refuse, or not mind, of a session and of parameters."""
    if isinstance(params, Mapping):
        text = query if isinstance(query, str) else query.as_string(connection)
        params = [params[name] for name in re.findall(r"%\((\w+)\)", text)]
    found = [f"an array as a parameter: {each}" for each in params or () if type(each) is list]
    if "search_path" in connection.info.options:
        found.append(f"search_path as an option is ignored: {connection.info.options}")
    return found


def violations(statement: str) -> list[str]:
    """Return what RisingWave would refuse in a statement, by the rules over words."""
    tokens = Tokens().tokenize(_COLUMNS.sub(r"\1", _ESCAPED.sub("''", statement)))
    spoken = set(words(tokens))
    found = [*absent(tokens), *functions(tokens), *types(tokens)]
    found += [] if _ASKS.match(statement) else intervals(tokens)
    found += sorted(spoken & (_FORBIDDEN | _CLOCKS))
    found += [*endless(tokens), *limits(tokens), *arrays(tokens)]
    return [f"{problem}: {' '.join(statement.split())[:200]}" for problem in found]


def grow_old(engine: Engine, days: int = 1) -> None:
    """Make every heartbeat older, on either kind of engine."""
    age = f"interval '{days} days'"
    with engine.connect() as connection:
        if engine.dialect.name == "postgres":
            connection.execute(f"update control.claims set heartbeat_at = heartbeat_at - {age}")
            return
        connection.execute(f"update control.heartbeats set heartbeat_at = heartbeat_at - {age}")
        connection.execute(f"update control.attempts set claimed_at = claimed_at - {age}")
