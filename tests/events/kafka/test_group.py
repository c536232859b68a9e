"""Under what names ingest joins: one group a database, one member a process."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from headrace.engine import Engine
from headrace.engine.embedded import EmbeddedPostgres
from headrace.events.kafka.group import group_id, member_id
from headrace.settings import Settings


def test_each_database_is_a_group(engine: Engine, template: EmbeddedPostgres) -> None:
    names = [group_id(engine), group_id(engine), group_id(Engine(template.dsn, engine.settings))]
    assert names[0] == names[1] != names[2]
    database = engine.rows("select current_database() as name")[0]["name"]
    assert re.fullmatch(rf"headrace\.ingest-{database}-[0-9a-f]{{8}}", names[0])


def test_a_role_without_rights_can_tell_its_group(
    engine: Engine, template: EmbeddedPostgres
) -> None:
    with psycopg.connect(template.dsn, autocommit=True) as admin:
        admin.execute("drop role if exists plain")
        admin.execute("create role plain login password 'x'")
        try:
            dsn = make_conninfo(engine.dsn, user="plain", password="x")
            assert group_id(Engine(dsn, engine.settings)) == group_id(engine)
        finally:
            admin.execute("drop role plain")


def test_two_of_one_home_are_two_members_and_each_is_taken_up_again(tmp_path: Path) -> None:
    settings = replace(Settings(), home=tmp_path)
    with member_id(settings) as first, member_id(settings) as second:
        assert first != second
        assert re.fullmatch(r"[A-Za-z0-9._-]+-1-[0-9a-f]{8}", first)
    with member_id(settings) as again, member_id(settings) as other:
        assert (again, other) == (first, second)
    (tmp_path / "ingest" / "1.member").write_text("torn")
    with member_id(settings) as anew:
        assert re.fullmatch(r".+-1-[0-9a-f]{8}", anew)
