"""The formula macros of dbt, rendered and evaluated on a PostgreSQL."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import psycopg
from hypothesis import HealthCheck, settings
from jinja2 import Environment

from headrace.settings import project_path

Connection = psycopg.Connection[Any]

# The files of macros/statistics that are formulas; the others need panes or an engine's dialect.
FILES = (
    "arithmetic", "normal", "proportions", "sequential_tests", "bandits", "design_effect",
    "rewards", "least_squares", "page_hinkley", "auc_error", "chi_square", "psi",
    "category_distances", "holm", "drift_status", "histogram_distances", "number_bins",
    "sketches", "rings", "vectors",
)  # fmt: skip

EXAMPLES = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


# As engine/planning.sql and engine/exact_numbers.sql have them, with RisingWave's limit of digits.
ENGINE: dict[str, Callable[..., str]] = {
    "fence": lambda: "offset 0",
    "as_double": lambda x: f"({x})::double precision",
    "spread": lambda n, squares, total: (
        f"case when ({n})::double precision * ({squares})::double precision "
        f"< '1e28'::double precision and abs(({total})::double precision) "
        f"< '1e14'::double precision then {n} * {squares} - {total} * {total} end"
    ),
}


class CompilerError(Exception):
    pass


def raise_compiler_error(message: str) -> NoReturn:
    raise CompilerError(message)


def load_macros() -> dict[str, Callable[..., str]]:
    """Return the macros of these files, rendered by plain Jinja: dbt takes a second for each."""
    package = SimpleNamespace(**ENGINE)
    environment = Environment()
    environment.globals["headrace"] = package
    environment.globals["exceptions"] = SimpleNamespace(raise_compiler_error=raise_compiler_error)
    for name in FILES:
        path: Path = project_path("dbt_project") / "macros" / "statistics" / f"{name}.sql"
        module = environment.from_string(path.read_text()).module
        package.__dict__.update(
            {key: value for key, value in vars(module).items() if not key.startswith("_")}
        )
    return {name: macro for name, macro in vars(package).items() if name not in ENGINE}


MACROS = load_macros()
COUNTS = [None, -1, 0, 1, 2, 3, 40, 10**15]
NUMBERS = [None, math.nan, math.inf, -math.inf, 0.0, 1.0, -1.0, 0.3, 3.0, 40.0]
NUMBERS += [5e-324, -5e-324, 1e-300, 1e-30, 1e-12, 1e12, 1e30, 1.7e308, -1.7e308]
SHARES = [None, 0.0, 1e-18, 0.25, 1.0]
SUMS = [None, 0.0, 1e-9, 1.0, 1e12]
DIFFERENCES = [-1e30, -0.5, 0.0, 1e-9, 1.0, 1e30]
VARIANCES = [None, -1.0, 0.0, 1e-9, 0.25, 1e12]
# The values that each argument is tested with, and whether the result is in [0, 1].
SCALARS: dict[str, tuple[list[Sequence[Any]], bool]] = {
    "normal_cdf": ([NUMBERS], True),
    "normal_p_value": ([NUMBERS], True),
    "wilson_low": ([COUNTS, COUNTS], True),
    "wilson_high": ([COUNTS, COUNTS], True),
    "two_proportion_z": ([COUNTS] * 4, False),
    "two_proportion_g": ([COUNTS] * 4, False),
    "always_valid_p_value": ([COUNTS] * 4, True),
    "mixture_p_value": ([DIFFERENCES, VARIANCES, VARIANCES], True),
    "planned_share_p_value": ([COUNTS, COUNTS, SHARES], True),
    "mixture_reach": ([VARIANCES, VARIANCES, [None, 0.0, 1e-300, 0.05, 1.0, 2.0]], False),
    "share_variance": ([COUNTS[2:], COUNTS[3:]], False),
    "chi_square_p_value": ([NUMBERS, COUNTS], True),
    "cramers_v": ([NUMBERS, COUNTS, COUNTS], True),
    "ks_p_value": ([NUMBERS, COUNTS, COUNTS], True),
    "chi_square_mean": ([COUNTS, COUNTS], False),
    "chi_square_variance": ([COUNTS, SUMS, COUNTS, COUNTS], False),
    "chi_square_third": ([COUNTS, SUMS, SUMS, COUNTS, COUNTS], False),
    "smoothed_share": ([COUNTS[2:], COUNTS[2:], COUNTS[2:]], False),
    "psi_chance": ([COUNTS] * 4, False),
    "psi_term": ([SHARES, SHARES], False),
    "js_term": ([SHARES, SHARES], False),
    "ucb1": ([[None, 0.0, 1.0], COUNTS, COUNTS], False),
    "effective_sample_size": ([SUMS, SUMS], False),
    "bounded": ([NUMBERS], False),
    "auc_stderr": ([SHARES, COUNTS, COUNTS, SUMS, SUMS], False),
    "student_z": ([NUMBERS, COUNTS], False),
    "page_hinkley_threshold": ([VARIANCES, VARIANCES, COUNTS, SHARES], False),
}
TABLES: dict[str, dict[str, Any]] = {
    "least_squares": {"x": "x", "y": "y", "weight": "case when y > 0 then 3 else 1 end"},
    "page_hinkley": {"order_by": "at", "x": "x", "delta": 0.5, "weight": "1 + mod(at, 3)"},
    "wasserstein_distances": {},
    "category_distances": {"bin": "bin"},
    "binned_numbers": {},
    "finest_buckets": {},
    "design_effects": {"base": "base"},
    "label_effects": {"base": "base"},
    "compared_rewards": {"base": "base", "units": "given"},
    "holm_p_values": {"p": "p", "test": "test"},
}
PARTS = {"exp_of", "polynomial", "normal_upper_tail", "z_of", "is_proportion", "wilson_bound"}
PARTS |= {"chi_square_z", "fitted_degrees", "fitted_statistic", "held_bin", "number_bin"}
PARTS |= {"drift_status", "is_significant", "ks_is_apart", "tests_of", "tests_of_model"}
PARTS |= {"design_effect_of_count", "design_effect_of_share", "ips_variance", "snips_variance"}
PARTS |= {"are_identifiers", "are_renewed", "is_few_rows_each", "is_own_feature"}
PARTS |= {"sample_variance", "unit_group", "unit_groups", "min_unit_groups"}
PARTS |= {"placed_sums", "is_unplanned", "moved_to", "likelihood_term"}
PARTS |= {"sketch_gamma", "sketch_width", "sketch_bucket", "sketch_value"}
PARTS |= {"ring_levels", "ring_size", "ring_places", "level_bits", "finest_bucket"}
PARTS |= {"bucket_of_finest", "ring_place", "level_value", "slow_counts", "max_slow_share"}
PARTS |= {"vector_variance", "welch_degrees"}


def expression(name: str, **options: Any) -> str:
    """Macro `name` of columns that are named as its arguments."""
    return str(MACROS[name](*arguments(name), **options))


def arguments(name: str) -> tuple[str, ...]:
    macro: Any = MACROS[name]
    width = len(SCALARS[name][0])
    names: tuple[str, ...] = macro.arguments[:width]
    return names


def evaluate(database: Connection, name: str, cases: Sequence[Any], **options: Any) -> list[Any]:
    """Macro `name` of each case (a number or a tuple of them), in one query."""
    rows = [case if isinstance(case, tuple) else (case,) for case in cases]
    relation, parameters = values(arguments(name), rows)
    query = f"select {expression(name, **options)} as value from {relation} order by place"
    return [row["value"] for row in database.execute(query.encode(), parameters)]


def values(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> tuple[str, list[Any]]:
    """A relation of these rows and a column `place`, and its parameters."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    arrays = ", ".join(f"%s::{type_of(column)}[]" for column in columns)
    return f"unnest({arrays}) with ordinality as cases ({', '.join(names)}, place)", columns


def type_of(column: list[Any]) -> str:
    for known, name in ((str, "text"), (float, "double precision")):
        if any(isinstance(value, known) for value in column):
            return name
    return "bigint"


def table(
    database: Connection, name: str, names: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> list[dict[str, Any]]:
    """The rows of a CTE macro over these rows, by group `g`."""
    relation, parameters = values(names, rows)
    ctes = MACROS[name](name="result", relation="given", by=["g"], **TABLES[name])
    query = f"with given as (select * from {relation}), {ctes} select * from result"
    return database.execute(query.encode(), parameters).fetchall()


def groups(rows: Sequence[tuple[Any, ...]]) -> dict[Any, list[tuple[Any, ...]]]:
    found: dict[Any, list[tuple[Any, ...]]] = {}
    for key, *rest in rows:
        found.setdefault(key, []).append(tuple(rest))
    return found
