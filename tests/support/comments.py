"""Comments of the database on panes and marts."""

from __future__ import annotations

from headrace.engine import Engine


def comments(engine: Engine) -> dict[tuple[str, str, str], str]:
    """Return the comments by schema, relation and column; that of a relation has no column."""
    rows = engine.rows(
        """
        select nspname, relname, coalesce(attname, '') as attname, description
        from pg_class
        join pg_namespace on pg_namespace.oid = relnamespace
        join pg_description on objoid = pg_class.oid and classoid = 'pg_class'::regclass
        left join pg_attribute on attrelid = pg_class.oid and attnum = objsubid and attnum > 0
        where nspname in ('headrace', 'panes') and relkind in ('v', 'r')
        """
    )
    return {
        (row["nspname"], row["relname"], row["attname"]): " ".join(row["description"].split())
        for row in rows
    }
