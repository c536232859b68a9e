"""What a test's database holds: its panes and rows, and how it is emptied for the next example."""

from __future__ import annotations

from headrace.engine import Engine

# What counts the rows of panes that a revision can empty: such a row stays, with zeros.
COUNTED = {
    "arm_panes": "pulls",
    "class_panes": "examples",
    "delay_panes": "labels",
    "endpoint_panes": "labels",
    "item_label_panes": "labels",
    "label_arrivals": "labels",
    "label_counts": "examples",
    "label_panes": "examples",
    "opinion_panes": "opinions",
    "preference_panes": "preferences + ties",
    "segment_label_panes": "labels",
    "target_panes": "logged",
    "unit_panes": "labels",
}


def empty(engine: Engine) -> None:
    tables = engine.rows(
        "select format('%I.%I', schemaname, tablename) as name from pg_tables "
        "where schemaname in ('events', 'panes')"
    )
    with engine.connect() as connection:
        connection.execute("truncate " + ", ".join(row["name"] for row in tables))
        connection.execute("truncate control.horizons")  # what was expired comes anew
        connection.execute(
            "insert into control.policies (model, policy, value) values "
            "('*', 'positive_label', 'yes') "
            "on conflict (model, policy) do update set value = excluded.value"
        )


def ids(engine: Engine, column: str, view: str) -> list[str]:
    return sorted(row[column] for row in engine.rows(f"select {column} from headrace.{view}"))


def pane_names(engine: Engine) -> list[str]:
    rows = engine.rows("select tablename from pg_tables where schemaname = 'panes'")
    return [row["tablename"] for row in rows]


def pane_oids(engine: Engine) -> dict[str, int]:
    """The identity of every stored pane: a rebuilt one is another table."""
    rows = engine.rows(
        "select relname, pg_class.oid::bigint as oid from pg_class "
        "join pg_namespace on pg_namespace.oid = relnamespace "
        "where nspname = 'panes' and relkind = 'r'"
    )
    return {row["relname"]: row["oid"] for row in rows}
