"""The statements of sql/risingwave keep RisingWave's rules, and every rule can fail."""

from __future__ import annotations

import pytest
from sqlglot import exp, parse_one

from headrace.events.kafka.topics import topic_name
from headrace.events.rows import COLUMNS
from headrace.settings import Settings, project_path
from tests.support.risingwave_ddl import RULES, Statement, column_names, violations
from tests.support.risingwave_sql_on_postgres import AFTER, FILES, VALUES, statements

SOURCE = """create source if not exists s.m (
    message bytea,
    document jsonb as convert_from(message, 'utf8')::jsonb,
    at timestamptz as proctime()
)
include partition as message_partition
with (connector = 'kafka', scan.startup.mode = 'earliest') format plain encode bytes"""
TABLE = """create table if not exists s.t (
    id varchar primary key,
    n bigint,
    at timestamptz default now()
) append only on conflict do nothing"""
SINK = """create sink if not exists s.k
into s.t (id, n) as
select id, n
from s.v
where n > 0
with (type = 'append-only')"""
TOPIC = """create sink if not exists s.k as
select id
from s.v
with (
    connector = 'kafka'
) format plain encode json (
    force_append_only = 'true'
)"""
VIEW = """create view if not exists s.v as
select jsonb_path_query_first(j, 'strict $.a ? (@ > $high)') as a, (x ->> 'b') ~ '^[0-9]+$' as b
from s.u"""
GRANTED = "grant select on all views in schema headrace to headrace_reader"
FOLLOW = "create subscription if not exists s.f\nfrom s.v\nwith (retention = '7D')"
TABLES = {"s.t": ["id", "n"]}
GOOD = [SOURCE, TABLE, SINK, TOPIC, VIEW, FOLLOW, GRANTED]
# By rule: a good statement, what to replace in it, and by what.
PLANTED: dict[str, list[tuple[str, str, str]]] = {
    "repeatable": [
        (TABLE, " if not exists", ""),
        (TABLE, "create table", "alter table"),
        (GRANTED, "select", "insert"),
        (GRANTED, "all views", "all tables"),
    ],
    "words": [
        (TABLE, "n bigint", "n bigint not null"),
        (TABLE, "n bigint", "n bigint references s.u"),
        (TABLE, "n bigint", "n bigint check (n > 0)"),
        (TABLE, "n bigint", "n bigint unique"),
        (TABLE, "n bigint", "n bigint generated always as identity"),
        (VIEW, "create view", "comment on table s.v is 'x'; create view"),
        (VIEW, "from s.u", "from s.u cascade"),
    ],
    "types": [
        (TABLE, "n bigint", "n numeric(8, 3)"),
        (TABLE, "id varchar", "id text"),
        (TABLE, "id varchar", "id uuid"),
        (SOURCE, "document jsonb", "document json"),
    ],
    "keys": [
        (TABLE, " primary key", ""),
        (TABLE, "do nothing", "do update"),
        (TABLE, " on conflict do nothing", ""),
        (TABLE, "default now()", "default clock_timestamp()"),
        (TABLE, "id varchar", "id jsonb"),
    ],
    "sources": [
        (SOURCE, "message bytea", "message bytea,\n    more bytea"),
        (SOURCE, "message bytea", "message jsonb"),
        (SOURCE, "convert_from(message, 'utf8')::jsonb", "jsonb_build_object('at', at)"),
        (SOURCE, "include partition as message_partition", "include partition"),
        (SOURCE, "include partition as message_partition", "include payload as p"),
        (SOURCE, "earliest", "latest"),
    ],
    "sinks": [
        (SINK, "(id, n)", "(n, id)"),
        (SINK, "(id, n) as\nselect id, n", "(id) as\nselect id"),
        (SINK, "'append-only'", "'upsert'"),
        (SINK, "'append-only')", "'append-only') format plain encode json"),
        (TOPIC, "force_append_only = 'true'", ""),
    ],
    "subscriptions": [(FOLLOW, "from s.v", "from r.v"), (FOLLOW, "retention = '7D'", "x = '7D'")],
    "patterns": [
        (VIEW, "^[0-9]+$", "^(?=a)b"),
        (VIEW, "^[0-9]+$", "(a)\\1"),
        (VIEW, "strict $.a", "$.a"),
        (VIEW, "$high", "1e300"),
        (VIEW, "$.a", "$.**"),
    ],
    "queries": [
        (VIEW, "from s.u", "from s.u cross join s.w"),
        (VIEW, "jsonb_path_query_first", "pg_notify"),
        (VIEW, "from s.u", "from s.u where at > now()"),
        (SINK, "where n > 0", "where n > 1 / n"),
    ],
}


def test_every_statement_keeps_the_rules() -> None:
    tables: dict[str, list[str]] = {}
    found = []
    for file in [*FILES, *AFTER]:
        for text in statements(file):
            statement = Statement(text, tables)
            found += [f"{file.name}: {statement.name}: {each}" for each in violations(statement)]
            if statement.kind == "table":
                tables[statement.name] = column_names(statement)
    assert found == []
    for topic, columns in COLUMNS.items():
        assert set(columns) <= set(tables[f"events.{topic}"])


def test_every_topic_is_read() -> None:
    text = "\n".join(file.read_text() for file in FILES)
    for topic in COLUMNS:
        assert f"topic = '${{prefix}}{topic_name(Settings(kafka_prefix=''), topic)}'" in text


def selected(statement: Statement) -> list[str]:
    """The columns of a view."""
    query = parse_one(statement.select, read="risingwave")
    assert isinstance(query, exp.Query)
    return query.named_selects


def test_what_postgresql_has_is_here_too() -> None:
    """The models read the same names: columns of the tables and views that they have as sources."""
    postgres = project_path("sql")
    made: dict[str, list[str]] = {}
    for file in [*postgres.glob("0*.sql"), *postgres.glob("postgres/0*.sql")]:
        for text in file.read_text().split(";\n"):
            statement = Statement(text[text.find("create table") :].strip())
            if statement.kind == "table":
                made[statement.name] = column_names(statement)
    there = {
        statement.name: column_names(statement) or selected(statement)
        for file in FILES
        for text in statements(file)
        if (statement := Statement(text)).kind in ("table", "view")
    }
    shared = {"events.inference", "events.feedback", "events.model_events", "events.rejected"}
    shared |= {"events.conflicts", "events.input_vectors", "events.input_vector_hours"}
    shared |= {f"control.{name}" for name in ("policies", "label_policies", "policy_kinds")}
    shared |= {"control.datasets", "control.deployed"}
    for name in shared & set(made):
        # No column of a key is null in RisingWave.
        assert set(there[name]) - {"item_key"} == set(made[name]), name
    assert len(shared & set(made)) >= 6


@pytest.mark.parametrize("text", GOOD)
def test_a_good_statement_passes(text: str) -> None:
    assert violations(Statement(text, TABLES | {"s.t": ["id", "n"]})) == []


def test_every_rule_is_planted() -> None:
    assert set(PLANTED) == set(RULES)


@pytest.mark.parametrize(
    ("rule", "text", "old", "new"), [(rule, *each) for rule in PLANTED for each in PLANTED[rule]]
)
def test_a_violation_is_found(rule: str, text: str, old: str, new: str) -> None:
    assert old in text
    found = violations(Statement(text.replace(old, new, 1), TABLES))
    assert [each for each in found if each.startswith(f"{rule}: ")], found


def test_every_placeholder_is_known() -> None:
    for file in [*FILES, *AFTER]:
        assert statements(file, VALUES)
