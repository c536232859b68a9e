"""sql/risingwave translated to PostgreSQL, as far as PostgreSQL can run it.

Sources become tables that a test fills with messages, sinks become inserts that a test runs, and
materialized views become plain ones. An expression that is null on RisingWave where PostgreSQL
raises is a function of the schema ``standin``; the SQL text is changed only where it is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from headrace.settings import project_path

PREFIX = "p."
FILES = sorted((project_path("sql") / "risingwave").glob("*.sql"))
AFTER = sorted((project_path("sql") / "risingwave" / "after").glob("*.sql"))
VALUES = {
    "kafka": "connector = 'kafka', properties.bootstrap.server = 'nowhere:9092'",
    "prefix": PREFIX,
}

# Expressions that RisingWave computes differently, mostly as null on an error, and the replacement.
OTHERWISE = {
    # no exponent where PostgreSQL writes one
    r"(\w+_number|(?:\w+\.)?value|\(total::double precision\))::text": r"standin.double_text(\1)",
    # no UTF-8, no JSON
    r"convert_from\(message, 'utf8'\)::jsonb": "standin.try_jsonb(message)",
    r"convert_from\(message, 'utf8'\)": "standin.try_text(message)",
    # no such day
    r"(\(\n\s+moment\[1\].*?\n\s+\))::timestamptz": r"standin.try_timestamptz(\1)",
    # a number that no double holds
    r"(\(payload ->> '\w+'\))::double precision": r"standin.try_double(\1)",
    # nor a bigint
    r"(\(payload ->> '\w+'\))::bigint": r"standin.try_bigint(\1)",
}
SHIMS = """
create schema standin;
create function standin.try_text(bytea) returns text language plpgsql immutable as $$
begin return convert_from($1, 'utf8'); exception when others then return null; end $$;
create function standin.try_timestamptz(text) returns timestamptz language plpgsql stable as $$
begin return $1::timestamptz; exception when others then return null; end $$;
create function standin.try_double(text) returns double precision language plpgsql immutable as $$
begin return $1::double precision; exception when others then return null; end $$;
create function standin.try_bigint(text) returns bigint language plpgsql immutable as $$
begin return $1::bigint; exception when others then return null; end $$;
-- No exponent from 0.00001 up and below 1e16.
create function standin.double_text(double precision) returns text language sql immutable as $$
    select case
        when abs($1) >= 0.00001 and abs($1) < 1e16 then $1::text::numeric::text else $1::text
    end
$$;
-- Its numbers are doubles: a greater one is no JSON.
create function standin.try_jsonb(bytea) returns jsonb language plpgsql immutable as $$
begin
    if jsonb_path_exists(
        convert_from($1, 'utf8')::jsonb, 'strict $.** ? (@ > $most || @ < $least)',
        '{"most": 1.7976931348623157e308, "least": -1.7976931348623157e308}'
    ) then return null; end if;
    return convert_from($1, 'utf8')::jsonb;
exception when others then return null;
end $$;
"""


class Message(NamedTuple):
    """A message of Kafka as clients see it; `timestamp` is in milliseconds, -1 for none."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    value: bytes | None
    timestamp_type: int = 0


def statements(file: Path, values: dict[str, str] = VALUES) -> list[str]:
    """Return the statements of a file of sql/risingwave: each ends with a line's last semicolon."""
    text = Template(file.read_text()).substitute(values)
    text = re.sub(r"^\s*--.*\n", "", text, flags=re.MULTILINE)
    return [
        each.strip() for each in re.split(r";[ \t]*$", text, flags=re.MULTILINE) if each.strip()
    ]


def create(connection: psycopg.Connection[Any]) -> list[str]:
    """Create the objects of sql/risingwave; return its sinks as inserts."""
    connection.execute(SHIMS)
    sinks = []
    for file in FILES:
        for statement in statements(file):
            if statement.startswith("set "):
                continue  # a setting of RisingWave's
            kind = re.match(r"create (\w+(?: view)?)", statement)
            assert kind, statement
            made = translated(statement)
            if kind[1] == "sink":
                sinks.append(made)
            else:
                connection.execute(made)
    return sinks


def apart(select: str) -> str:
    """Return a SELECT whose CTEs PostgreSQL computes one by one, as RisingWave's has no fences.

    Put into each other, a case in a case in a case takes PostgreSQL seconds to plan.
    """
    cte = r"^(\s*(?:with )?)(?!window )(\w+) as \((?!\s*partition by)"
    return re.sub(cte, r"\1\2 as materialized (", select, flags=re.MULTILINE)


def otherwise(query: str) -> str:
    """Return the query with what RisingWave computes differently replaced."""
    for pattern, replacement in OTHERWISE.items():
        query = re.sub(pattern, replacement, query, flags=re.DOTALL)
    return query


def translated(statement: str) -> str:
    """Return PostgreSQL's form of one statement of sql/risingwave."""
    statement = otherwise(statement)
    if statement.startswith("create source"):
        table, _, _ = statement.partition("\ninclude partition")
        table = re.sub(r"^create source if not exists", "create table", table)
        table = table.replace("as proctime()", "default clock_timestamp()")
        table = re.sub(
            r"^(    \w+ [a-z\[\]]+) as (.*?)(?=,\n    \w+ \w)",
            r"\1 generated always as (\2) stored",
            table,
            flags=re.DOTALL | re.MULTILINE,
        )
        more = "message_partition varchar, message_offset varchar, sent_at timestamptz)"
        return table.removesuffix("\n)") + ", " + more
    if statement.startswith("create sink"):
        into = re.fullmatch(
            r"create sink if not exists \S+\s+into (.*?\)) as\s+(select\b.*)"
            r"\nwith \(type = 'append-only'\)",
            statement,
            flags=re.DOTALL,
        )
        assert into, statement
        return f"insert into {into[1]} {into[2]} order by ingested_at on conflict do nothing"
    statement = statement.removesuffix(" append only on conflict do nothing")
    return re.sub(r"^create (materialized )?view if not exists", "create view", statement)


def put(connection: psycopg.Connection[Any], messages: Iterable[Message]) -> None:
    """Put messages into the tables that stand in for the sources, in this order."""
    for message in messages:
        sent_at = message.timestamp if message.timestamp >= 0 else None
        connection.execute(
            sql.SQL(
                "insert into {} (message, message_partition, message_offset, sent_at) "
                "values (%s, %s, %s, to_timestamp(%s::double precision / 1000))"
            ).format(sql.Identifier("events", f"{message.topic.removeprefix(PREFIX)}_messages")),
            [message.value, message.partition, message.offset, sent_at],
        )


def flow(connection: psycopg.Connection[Any], sinks: Iterable[str]) -> None:
    """Move the messages of the sources into the tables."""
    for sink in sinks:
        connection.execute(sink)


def columns(connection: psycopg.Connection[Any], table: str) -> Iterator[str]:
    """Yield the columns of a table in their order."""
    schema, name = table.split(".")
    for row in connection.execute(
        "select column_name from information_schema.columns "
        "where table_schema = %s and table_name = %s order by ordinal_position",
        [schema, name],
    ):
        yield row[0]
