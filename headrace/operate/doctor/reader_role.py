"""What the role `headrace_reader` can do and should not, and what it should and cannot.

`sql/postgres/005_roles.sql` grants its rights; `headrace.engine.reader_role` restores them.
"""

from __future__ import annotations

from headrace.engine import Engine
from headrace.engine.dialect import READER
from headrace.engine.embedded import embedded_postgres
from headrace.engine.postgres import LONGEST_READ, scram_verifier
from headrace.operate.doctor.findings import Findings, failed, warning

# Schemas of Headrace that the role must not see; what others let it read is theirs.
OURS = ("control", "events", "locks", "panes")


def faults(engine: Engine) -> Findings:
    """Yield what is wrong with the rights, the limits and the present sessions of the role."""
    if not engine.rows("select 1 from pg_roles where rolname = %s", [READER]):
        yield failed(f"there is no role {READER}", "have the administrator create it")
        return
    yield from _relations(engine)
    if engine.settings.engine == "postgres":
        yield from _beyond_relations(engine)
        yield from _limits(engine)
        yield from _sessions(engine)


def _relations(engine: Engine) -> Findings:
    for row in engine.rows(_GRANTS, {"reader": READER}):
        schema, name = row["schema"], f"{row['schema']}.{row['name']}"
        if schema == "headrace" and not row["reads"]:
            do = f"grant usage on schema {schema}, and select on {name}, to {READER}"
            yield failed(f"{READER} cannot read {name}", do)
        if schema in OURS and row["reads"]:
            yield failed(f"{READER} can read {name}", f"revoke select on {name} from {READER}")
        if row["writes"]:
            do = f"revoke insert, update, delete on {name} from {READER}"
            yield failed(f"{READER} can change {name}", do)


def _beyond_relations(engine: Engine) -> Findings:
    """Rights on schemas, the database and functions, and those of other roles."""
    for row in engine.rows(_SCHEMAS, [READER, READER]):
        if row["makes"]:
            do = f"revoke create on schema {row['name']} from public, {READER}"
            yield failed(f"{READER} can create objects in schema {row['name']}", do)
        elif row["name"] in OURS:
            do = f"revoke usage on schema {row['name']} from public, {READER}"
            yield failed(f"{READER} can use schema {row['name']}", do)
    may = engine.rows(_DATABASE, [READER, READER])[0]
    for right in ("temporary", "create"):
        if may[right]:
            does = {"temporary": "create temporary tables", "create": "create schemas"}[right]
            do = f"revoke {right} on database {may['name']} from public, {READER}"
            yield failed(f"{READER} can {does}", do)
    called = engine.rows("select called::text from control.more_than_reading() order by called")
    if called:
        known = ", ".join(row["called"] for row in called[:3])
        judge = failed if may["superuser"] else warning
        yield judge(
            f"{READER} can call {len(called)} functions that lock or store something, as {known}",
            "have a superuser run `headrace migrate`, or revoke execute on them from public",
        )
    for row in engine.rows(_POWERS, [READER]):
        yield failed(f"{READER} {row['power']}", row["remedy"])


def _limits(engine: Engine) -> Findings:
    role = engine.rows(_ROLE, [READER])[0]
    if role["rolconnlimit"] < 0:
        do = f"alter role {READER} connection limit 20"
        yield failed(f"{READER} can take every connection", do)
    for row in engine.rows(_DEFAULTS, [READER]):
        values = ", ".join(f"'{value}'" for value in row["value"].split(", "))
        do = f"alter role {READER} set {row['name']} = {values}"
        if not row["got"]:
            judge = failed if row["may"] else warning
            yield judge(f"{READER} has no {row['name']}", do)
        elif row["got"] != row["value"] and not engine.settings.dsn:
            says = f"{row['name']} of {READER} is {row['got']}, not {row['value']}"
            yield failed(says, "start the gateway, which resets it")
    if not engine.settings.dsn:
        password = embedded_postgres(engine.settings).password(READER)
        kept = engine.rows("select rolpassword from pg_authid where rolname = %s", [READER])
        if kept[0]["rolpassword"] != scram_verifier(password):
            yield failed(
                f"the password of {READER} is not the one in its file",
                "start the gateway, which resets it",
            )


def _sessions(engine: Engine) -> Findings:
    longest = int(LONGEST_READ.total_seconds())
    for row in engine.rows(_LONG, [READER, LONGEST_READ]):
        yield failed(
            f"a session of {READER} has been running for {row['seconds']} s (pid {row['pid']})",
            f"the gateway ends it after {longest} s; or select pg_terminate_backend({row['pid']})",
        )
    if not engine.rows(_MAY_END, [READER])[0]["may"]:
        yield warning(
            f"the gateway may not end sessions of {READER} that run too long",
            f"have the administrator grant {READER} to the owner, with inherit true",
        )


_GRANTS = """
select
    pg_namespace.nspname as schema, pg_class.relname as name,
    has_schema_privilege(%(reader)s, pg_namespace.oid, 'usage')
    and has_table_privilege(%(reader)s, pg_class.oid, 'select') as reads,
    has_schema_privilege(%(reader)s, pg_namespace.oid, 'usage') and (
        has_table_privilege(%(reader)s, pg_class.oid, 'insert')
        or has_table_privilege(%(reader)s, pg_class.oid, 'update')
        or has_table_privilege(%(reader)s, pg_class.oid, 'delete')
    ) as writes
from pg_class
inner join pg_namespace on pg_class.relnamespace = pg_namespace.oid
where
    pg_namespace.nspname not in ('pg_catalog', 'information_schema', 'rw_catalog')
    and pg_namespace.nspname not like 'pg\\_%%'
    and pg_class.relkind in ('r', 'p', 'v', 'm')
order by schema, name
"""
_SCHEMAS = """
select nspname as name, has_schema_privilege(%s, oid, 'create') as makes
from pg_namespace
where
    has_schema_privilege(%s, oid, 'usage')
    and nspname not like 'pg\\_%%' and nspname != 'information_schema'
order by name
"""
_DATABASE = """
select
    current_database() as name,
    has_database_privilege(%s, current_database(), 'temporary') as temporary,
    has_database_privilege(%s, current_database(), 'create') as create,
    current_setting('is_superuser') = 'on' as superuser
"""
_POWERS = """
select power, remedy
from pg_roles,
    lateral (
        values
        (rolsuper, 'is a superuser', 'alter role headrace_reader nosuperuser'),
        (rolcreaterole, 'can create roles', 'alter role headrace_reader nocreaterole'),
        (rolcreatedb, 'can create databases', 'alter role headrace_reader nocreatedb'),
        (rolreplication, 'can replicate all data', 'alter role headrace_reader noreplication'),
        (
            exists (select from pg_auth_members where member = pg_roles.oid),
            'has the rights of other roles',
            'revoke these roles from headrace_reader'
        )
    ) as powers (has, power, remedy)
where rolname = %s and has
"""
_ROLE = "select rolconnlimit from pg_roles where rolname = %s"
_DEFAULTS = """
select
    name,
    value,
    (
        select substring(line from strpos(line, '=') + 1)
        from pg_db_role_setting, unnest(setconfig) as line
        where
            setrole = (select oid from pg_roles where rolname = %s)
            and split_part(line, '=', 1) = name
        order by setdatabase desc limit 1
    ) as got,
    current_setting('is_superuser') = 'on' or name != 'temp_file_limit' as may
from control.reader_defaults()
"""
_LONG = """
select
    pid,
    extract(epoch from clock_timestamp() - least(
        xact_start, case when state = 'active' then query_start end
    ))::int as seconds
from pg_stat_activity
where
    usename = %s
    and clock_timestamp() - %s
    > least(xact_start, case when state = 'active' then query_start end)
order by pid
"""
_MAY_END = """
select
    current_setting('is_superuser') = 'on'
    or pg_has_role(%s, 'usage')
    or (pg_has_role('pg_signal_backend', 'usage') and pg_has_role('pg_read_all_stats', 'usage'))
    as may
"""
