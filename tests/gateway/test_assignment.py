"""Which version answers a unit: shares, and what stays as it is when they change."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.control.plan import Served
from headrace.events.contract import Inference
from headrace.gateway.assignment import place, unit_of
from headrace.gateway.versions import LoadedVersion, ModelVersions
from headrace.model.artifact import Manifest
from headrace.model.recipe import Predictor

UNITS = [f"user-{number}" for number in range(2_000)]
FEW = settings(max_examples=20, deadline=None)
SHARES = st.floats(0, 0.5)
NAMES = st.lists(st.text("abc0123456789", min_size=1), min_size=3, max_size=3, unique=True)


def version(name: str, variant: str = "champion", traffic: float = 0) -> LoadedVersion:
    manifest, predictor = cast(Manifest, None), cast(Predictor, None)  # not asked for here
    row = Served("m", name, variant, traffic, f"file:///{name}")
    return LoadedVersion(row, manifest, predictor, (), None, None)


def serving(canaries: dict[str, float], holdback: float = 0, absent: str = "") -> ModelVersions:
    """A champion, canaries of these shares, of which `absent` is not loaded, and a holdout."""
    loaded = [version(name, "canary", share) for name, share in canaries.items()]
    return ModelVersions(
        version("champion"),
        tuple((one.row, None if one.row.model_version == absent else one) for one in loaded),
        version("oldest", "holdout", holdback) if holdback else None,
    )


def chosen(versions: ModelVersions) -> dict[str, str]:
    found = {unit: versions.choose(unit) for unit in UNITS}
    return {unit: one.row.model_version for unit, one in found.items() if one}


def within_chance(units: int, share: float) -> bool:
    """Whether so many of UNITS are as expected, by six standard deviations and a few."""
    n = len(UNITS)
    return bool(abs(units - n * share) <= 6 * (n * share * (1 - share)) ** 0.5 + 6)


@FEW
@given(NAMES, SHARES, SHARES, SHARES)
def test_each_version_has_exactly_its_share(
    names: list[str], first: float, second: float, holdback: float
) -> None:
    counts = Counter(chosen(serving({names[0]: first, names[1]: second}, holdback)).values())
    assert within_chance(counts["oldest"], holdback)
    for name, share in zip(names, (first, second), strict=False):
        assert within_chance(counts[name], share * (1 - holdback))


@FEW
@given(NAMES, st.lists(SHARES, min_size=2, max_size=4).map(sorted), SHARES, SHARES)
def test_units_stay_while_a_share_rises(
    names: list[str], rising: list[float], other: float, holdback: float
) -> None:
    for steps in (
        [chosen(serving({names[0]: other, names[1]: share}, holdback)) for share in rising],
        [chosen(serving({names[0]: share})) for share in rising],
    ):
        for before, after in itertools.pairwise(steps):
            moved = {(before[unit], after[unit]) for unit in UNITS if before[unit] != after[unit]}
            assert moved <= {("champion", names[1]), ("champion", names[0])}


@FEW
@given(NAMES, st.lists(st.floats(0, 0.5), min_size=2, max_size=3).map(sorted), SHARES)
def test_whatever_the_loop_does_the_holdback_is_the_same_and_grows(
    names: list[str], holdbacks: list[float], share: float
) -> None:
    held: set[str] = set()
    for number, holdback in enumerate(holdbacks):
        found = chosen(serving({names[number]: share}, holdback))
        now = {unit for unit, name in found.items() if name == "oldest"}
        assert held <= now
        held = now


@FEW
@given(NAMES)
def test_which_units_are_first_differs_between_experiments(names: list[str]) -> None:
    sides = [
        {unit for unit in UNITS if place(unit, *experiment) < 0.5}
        for experiment in [("holdout", "m"), *(("canary", "m", name) for name in names)]
    ]
    for one, other in itertools.combinations(sides, 2):
        assert within_chance(len(one & other), 0.25)


@FEW
@given(NAMES, SHARES, SHARES)
def test_what_a_canary_that_is_not_loaded_would_answer_goes_to_the_champion(
    names: list[str], first: float, second: float
) -> None:
    canaries = {names[0]: first, names[1]: second}
    told = chosen(serving(canaries))
    found = chosen(serving(canaries, absent=names[0]))
    assert found == {unit: "champion" if name == names[0] else name for unit, name in told.items()}


def test_a_unit_is_a_user_or_a_session_or_a_request() -> None:
    request = Inference(model="m", request_id="r", session_id="s", user_id="u")
    assert unit_of(request) == "u"
    assert unit_of(Inference(model="m", request_id="r", session_id="s", user_id="")) == "s"
    assert unit_of(Inference(model="m", request_id="r")) == "r"
