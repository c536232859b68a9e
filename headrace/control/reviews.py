"""Reviews: who has which prediction of ``headrace.review_queue``, and what came of it.

A claim is a row of ``control.reviews`` with the next attempt at its prediction. The first row of a
key stays, on both engines, so of several reviewers that claim at once one has it. What comes of it
are rows of the same attempt. A claim ends with its lease (the policy `review_lease`), unless
something came of it; nothing holds it otherwise, so whoever dies keeps nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import psycopg
from psycopg.rows import dict_row
from psycopg.sql import SQL

from headrace.engine import Engine
from headrace.engine.dialect import Connection, inserting
from headrace.errors import ContractError
from headrace.events.contract import uuid7

Step = Literal["claimed", "labeled", "skipped", "unlabeled", "unskipped"]
# What must not have happened to a claim, for each step that may.
_EXCLUDED: dict[Step, tuple[Step, ...]] = {
    "labeled": ("skipped", "unlabeled", "unskipped"),
    "skipped": ("labeled", "unlabeled", "unskipped"),
}
# Others have said something already: whoever lets such a claim lapse does not get it again.
AGAIN = ("disputed", "second_opinion")


@dataclass(frozen=True)
class Claim:
    """One reviewer's turn at one prediction; `is_doubled`: another reviewer is wanted after."""

    prediction_id: str
    attempt: int
    claim_id: str
    model: str
    request_id: str
    item_id: str | None
    reviewer: str
    is_doubled: bool
    expires_at: datetime


@dataclass(frozen=True)
class Candidate:
    """A row of ``headrace.review_queue``."""

    request_id: str
    item_id: str | None
    reason: str
    raters: int
    prediction: str | None
    score: float | None
    uncertainty: float | None
    place: int
    event_time: datetime

    def prediction_id(self, model: str) -> str:
        """Return a hash of model, request and item."""
        named = json.dumps([model, self.request_id, self.item_id])
        return hashlib.sha256(named.encode()).hexdigest()


@dataclass(frozen=True)
class Attempt:
    """A claim with the steps that were taken."""

    claim: Claim
    steps: frozenset[str]

    @property
    def outcome(self) -> str | None:
        """What came of the claim, unless that was taken back."""
        for step in ("labeled", "skipped"):
            if step in self.steps and f"un{step}" not in self.steps:
                return step
        return None

    def is_held(self, now: datetime) -> bool:
        """Whether the reviewer is at it."""
        return self.steps == {"claimed"} and now < self.claim.expires_at


def queue(engine: Engine, model: str) -> list[Candidate]:
    """Return what is to be reviewed, in order, whether somebody has it or not."""
    rows = engine.rows(
        """
        select
            request_id, item_id, reason, raters, prediction, score, uncertainty, place, event_time
        from headrace.review_queue
        where model = %s
        order by place
        """,
        [model],
    )
    return [Candidate(**row) for row in rows]


def waiting(engine: Engine) -> list[dict[str, Any]]:
    """Return (model, waiting): how many predictions of each model are to be reviewed."""
    return engine.rows(
        "select model, count(*) as waiting from headrace.review_queue group by model order by model"
    )


def progress(engine: Engine, model: str, reviewer: str = "") -> dict[str, int]:
    """Return how many claims ended in a label, of all and of `reviewer`, and in a skip."""
    (row,) = engine.rows(
        """
        select
            coalesce(sum(case step when 'labeled' then 1 when 'unlabeled' then -1 end), 0)::bigint
                as labeled,
            coalesce(sum(case
                when reviewer != %s then 0 when step = 'labeled' then 1
                when step = 'unlabeled' then -1
            end), 0)::bigint as labeled_by_you,
            coalesce(sum(case step when 'skipped' then 1 when 'unskipped' then -1 end), 0)::bigint
                as skipped
        from control.reviews
        where model = %s
        """,
        [reviewer, model],
    )
    return row


def claim(
    engine: Engine, model: str, reviewer: str, rows: Sequence[Candidate]
) -> tuple[Claim, Candidate] | None:
    """Claim the next of the `queue` for a reviewer; None where there is none.

    What the reviewer holds already comes first, so a page that is loaded again goes on.
    """
    if not rows:
        return None
    by_id = {row.prediction_id(model): row for row in rows}
    with engine.connect(row_factory=dict_row) as connection:
        terms = _terms(connection, model)
        attempts = _attempts(engine, connection, list(by_id))
        for prediction_id, row in by_id.items():
            tried = attempts.get(prediction_id, [])
            if tried and tried[-1].is_held(terms.now) and tried[-1].claim.reviewer == reviewer:
                return tried[-1].claim, row
        for prediction_id, row in by_id.items():
            tried = attempts.get(prediction_id, [])
            if not is_free(row, tried, reviewer, terms.now):
                continue
            wanted = Claim(
                prediction_id=prediction_id,
                attempt=len(tried) + 1,
                claim_id=uuid7(),
                model=model,
                request_id=row.request_id,
                item_id=row.item_id,
                reviewer=reviewer,
                is_doubled=_is_drawn(prediction_id, terms.overlap),
                expires_at=terms.now + terms.lease,
            )
            if _take(engine, connection, wanted, terms.now):
                return wanted, row
    return None


def is_free(row: Candidate, tried: Sequence[Attempt], reviewer: str, now: datetime) -> bool:
    """Whether a reviewer may claim a row of the queue, after the attempts at it."""
    if tried and tried[-1].is_held(now):
        return False
    if sum(each.outcome == "labeled" for each in tried) > row.raters:
        return False  # the view has not seen a label yet
    return not any(
        each.claim.reviewer == reviewer
        and (each.outcome is not None or (row.reason in AGAIN and each.steps == {"claimed"}))
        for each in tried
    )


def claimed_by(engine: Engine, model: str, rows: Sequence[Candidate]) -> dict[str, str]:
    """Return who has which of the rows now, by prediction_id."""
    ids = [row.prediction_id(model) for row in rows]
    with engine.connect(row_factory=dict_row) as connection:
        now = _terms(connection, model).now
        attempts = _attempts(engine, connection, ids)
    return {
        prediction_id: tried[-1].claim.reviewer
        for prediction_id, tried in attempts.items()
        if tried[-1].is_held(now)
    }


def find(engine: Engine, claim_id: object) -> tuple[Attempt, bool]:
    """Return a claim with its steps, and whether somebody claimed its prediction after it.

    Raises:
        ContractError: there is no such claim.
    """
    if not isinstance(claim_id, str) or "\0" in claim_id:
        raise ContractError("claim_id", "the id of a claim", claim_id)
    with engine.connect(row_factory=dict_row) as connection:
        named = connection.execute(
            "select prediction_id from control.reviews where claim_id = %s limit 1",
            [claim_id.encode(errors="replace").decode()],
        ).fetchone()
        if named is None:
            raise ContractError("claim_id", "the id of a claim", claim_id)
        (tried,) = _attempts(engine, connection, [named["prediction_id"]]).values()
    found = next(each for each in tried if each.claim.claim_id == claim_id)
    return found, found is not tried[-1]


def check(engine: Engine, claim_id: object, step: Step) -> Claim:
    """Return the claim, to which `step` may be added; a step that is repeated may be, too.

    Raises:
        ContractError: there is no such claim, somebody has it by now, or something else came of it.
    """
    found, is_over = find(engine, claim_id)
    if is_over and step not in found.steps:
        raise ContractError("claim_id", "a claim that nobody took over", claim_id)
    for other in _EXCLUDED[step]:
        if other in found.steps:
            raise ContractError("claim_id", f"a claim that was not {other}", claim_id)
    return found.claim


def note(engine: Engine, claim: Claim, step: Step) -> None:
    """Add a step to a claim; one that is there already stays as it is."""
    with engine.connect(row_factory=dict_row) as connection:
        _add(engine, connection, claim, step, _terms(connection, claim.model).now)


def claim_again(engine: Engine, claim: Claim) -> Claim | None:
    """Claim a prediction once more, after `claim`; None where somebody else did."""
    with engine.connect(row_factory=dict_row) as connection:
        terms = _terms(connection, claim.model)
        wanted = Claim(
            **{
                **asdict(claim), "attempt": claim.attempt + 1, "claim_id": uuid7(),
                "expires_at": terms.now + terms.lease,
            }
        )  # fmt: skip
        if _take(engine, connection, wanted, terms.now):
            return wanted
        (tried,) = _attempts(engine, connection, [claim.prediction_id]).values()
    after = next(each for each in tried if each.claim.attempt == wanted.attempt)
    return after.claim if after.claim.reviewer == claim.reviewer else None


def said_at(engine: Engine, model: str) -> datetime:
    """Return when a label is said: now, or, where the model's clock stands a day back, then.

    Events of a replay are of another time, and one of today would end it.
    """
    with engine.connect(row_factory=dict_row) as connection:
        terms = _terms(connection, model)
    return terms.clock if terms.now - terms.clock > timedelta(days=1) else terms.now


@dataclass(frozen=True)
class _Terms:
    now: datetime
    clock: datetime
    lease: timedelta
    overlap: float


def _terms(connection: Connection, model: str) -> _Terms:
    row = connection.execute(
        """
        select
            now() as now,
            clock.event_clock as clock,
            policies.review_lease as lease,
            policies.review_overlap as overlap
        from headrace.model_policies as policies
        inner join headrace.model_clock as clock on policies.model = clock.model
        where policies.model = %s
        """,
        [model],
    ).fetchone()
    if row is None:
        raise ContractError("model", "a model with predictions", model)
    return _Terms(**row)


def _attempts(
    engine: Engine, connection: Connection, prediction_ids: Sequence[str]
) -> dict[str, list[Attempt]]:
    """Return the attempts at predictions, in order, by prediction_id."""
    if not prediction_ids:
        return {}
    among, values = engine.dialect.among(SQL("prediction_id"), SQL("text"), prediction_ids)
    columns = ", ".join(Claim.__dataclass_fields__)
    query = SQL(f"select {columns}, step from control.reviews where {{}}")
    rows = connection.execute(query.format(among), values).fetchall()
    steps: dict[str, set[str]] = {}
    claims: dict[str, Claim] = {}
    for row in rows:
        step = row.pop("step")
        steps.setdefault(row["claim_id"], set()).add(step)
        claims[row["claim_id"]] = Claim(**row)
    found: dict[str, list[Attempt]] = {}
    for each in sorted(claims.values(), key=lambda each: each.attempt):
        attempt = Attempt(each, frozenset(steps[each.claim_id]))
        found.setdefault(each.prediction_id, []).append(attempt)
    return found


def _take(engine: Engine, connection: Connection, wanted: Claim, now: datetime) -> bool:
    """Insert a claim; false where another one has that attempt."""
    _add(engine, connection, wanted, "claimed", now)
    stored = connection.execute(
        """
        select claim_id from control.reviews
        where prediction_id = %s and attempt = %s and step = 'claimed'
        """,
        [wanted.prediction_id, wanted.attempt],
    ).fetchone()
    return stored is not None and stored["claim_id"] == wanted.claim_id


def _add(engine: Engine, connection: Connection, claim: Claim, step: Step, now: datetime) -> None:
    row = {**asdict(claim), "step": step, "reviewed_at": now}
    # RisingWave says nothing; on both engines the first row stays.
    with suppress(psycopg.errors.UniqueViolation):
        connection.execute(*inserting("control.reviews", [row]))
    engine.dialect.flush(connection)


def _is_drawn(prediction_id: str, share: float) -> bool:
    return int(prediction_id[:8], 16) < share * 2**32
