"""The worker that makes vectors of recent inputs, beside everything else.

It reads the inferences as they were ingested, so it is one path for predictions of the gateway, for
events sent over HTTP and for those from Kafka. Vectors are stored in one transaction with the sums
that `embedding_drift` reads, and only those that were not there are added, so each counts once,
whoever is killed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg.rows import dict_row
from psycopg.sql import SQL, Identifier, Literal

from headrace.control.lease import Lease
from headrace.engine import Engine
from headrace.engine.dialect import Connection
from headrace.errors import EngineError, HeadraceError, SettingError, one_line
from headrace.events.contract import input_text
from headrace.model.text.vectors import Embedder
from headrace.vectors.bases import embedder_of

log = logging.getLogger(__name__)

# Seconds between two looks where nothing came in; else it rests as long as it worked.
EVERY_S = 2.0
# Seconds between two deletions of what is beyond its retention.
EXPIRE_S = 60.0
# Inputs of one transaction.
BATCH = 256
# Inferences that are looked at together, and the span of ingestion that is read for them.
LOOKED_AT = 5_000
FIRST_SPAN, LONGEST_SPAN = timedelta(seconds=10), timedelta(hours=1)
# Most dimensions that pgvector indexes in half precision.
INDEXED = 4_000

Key = tuple[str, str]  # model, request_id


@dataclass(frozen=True, slots=True)
class Budget:
    """How many inputs of an hour a model may have vectors of.

    Attributes:
        an_hour: of event time.
        kept_from: older inputs are beyond their retention.
    """

    an_hour: float
    kept_from: datetime

    def has_room(self, event_time: datetime, taken: int) -> bool:
        """Whether one more may be taken where `taken` of its hour were.

        An hour's share of the budget opens with the time that has passed in it, so what is taken is
        spread over the hour.
        """
        passed = (event_time - hour_of(event_time)) / timedelta(hours=1)
        return event_time >= self.kept_from and taken < min(
            self.an_hour, int(self.an_hour * passed) + 1
        )


def hour_of(moment: datetime) -> datetime:
    """Return the hour that a time, in UTC, is in."""
    return moment.replace(minute=0, second=0, microsecond=0)


@dataclass(frozen=True, slots=True)
class Wanted:
    """An input of which a vector is wanted."""

    model: str
    request_id: str
    event_time: datetime


class InputEmbedder:
    """Makes vectors of the inputs that came in, as the policy `embed_inputs` says.

    Of several, one works at a time (`Lease`).

    Args:
        say: is given a line for a person where a model's inputs cannot be embedded.

    Raises:
        SettingError: the engine keeps no vectors.
    """

    def __init__(self, engine: Engine, say: Callable[[str], None] = log.warning) -> None:
        if not engine.dialect.has_vectors:
            raise SettingError(
                "engine: vectors of inputs need HEADRACE_ENGINE=postgres, "
                f"got {engine.dialect.name}"
            )
        self._engine = engine
        self._say = say
        self._said: dict[str, str] = {}
        self._span = FIRST_SPAN
        self._expired_at = float("-inf")
        self.lease = Lease(engine.writing, "embedder", engine.settings.lease_s)

    def run(self, stop: threading.Event) -> None:
        """Look again and again until `stop` is set, whatever fails meanwhile."""
        with self.lease:
            while not stop.is_set():
                if not self.lease.is_held():
                    stop.wait(1)
                    continue
                began, went_on = time.monotonic(), False
                try:
                    went_on = self.look(stop)
                except (EngineError, psycopg.Error) as error:
                    log.warning("the database does not answer, trying again: %s", one_line(error))
                except Exception:
                    log.exception("the embedder goes on")
                stop.wait(time.monotonic() - began if went_on else EVERY_S)

    def look(self, stop: threading.Event | None = None) -> bool:
        """Embed what came in next; return whether there may be more to look at.

        Needs the lease, without which nothing is stored. Ends early where `stop` is set.

        Raises:
            EngineError, psycopg.Error: the database does not answer.
        """
        if time.monotonic() - self._expired_at > EXPIRE_S:
            self._expire()
            self._expired_at = time.monotonic()
        with self._engine.connect(row_factory=dict_row) as connection:
            at = connection.execute(_LOOKED_UP_TO).fetchone()
            if at is None or at["looked_up_to"] >= at["complete_until"]:
                return False
            since, horizon = at["looked_up_to"], at["complete_until"]
            budgets = self._budgets(connection)
            if not budgets:
                self._note(horizon)
                return False
            until = min(horizon, since + self._span)
            rows = connection.execute(
                _CAME_IN,
                {"since": since, "until": until, "models": list(budgets), "most": LOOKED_AT},
            ).fetchall()
            if len(rows) >= LOOKED_AT:
                until = rows[-1]["ingested_at"] + timedelta(microseconds=1)
                self._span /= 2
            elif len(rows) < LOOKED_AT / 4:
                self._span = min(2 * self._span, LONGEST_SPAN)
            embedders = self._embedders({row["model"] for row in rows})
            wanted = self._wanted(connection, rows, budgets, embedders)
            for start in range(0, len(wanted), BATCH):
                part = wanted[start : start + BATCH]
                self._store(part, self._embedded(_texts(connection, part), embedders))
                if stop is not None and stop.is_set():
                    return False
        self._note(until)
        return bool(until < horizon)

    def _budgets(self, connection: Connection) -> dict[str, Budget]:
        return {
            row["model"]: Budget(row["embed_inputs"], row["kept_from"])
            for row in connection.execute(_BUDGETS)
        }

    def _embedders(self, models: Iterable[str]) -> dict[str, Embedder]:
        """The embedders of models, without those that cannot be loaded."""
        found = {}
        for model in sorted(models):
            try:
                found[model] = embedder_of(self._engine.settings, model)
            except HeadraceError as error:
                problem = f"inputs of {model} are not embedded: {one_line(error)}"
                if self._said.get(model) != problem:
                    self._said[model] = problem
                    self._say(problem)
        return found

    def _wanted(
        self,
        connection: Connection,
        rows: Sequence[Mapping[str, Any]],
        budgets: Mapping[str, Budget],
        embedders: Mapping[str, Embedder],
    ) -> list[Wanted]:
        """Those whose hour has room, in the order of their times."""
        found: dict[Key, Wanted] = {}
        for row in sorted(rows, key=itemgetter("event_time")):
            if row["model"] in embedders:
                one = Wanted(row["model"], row["request_id"], row["event_time"])
                found.setdefault((one.model, one.request_id), one)
        hours = {(one.model, hour_of(one.event_time)) for one in found.values()}
        taken: dict[tuple[str, datetime], int] = defaultdict(int)
        for hour in connection.execute(
            _TAKEN,
            [
                [model for model, _ in hours],
                [embedders[model].name for model, _ in hours],
                [moment for _, moment in hours],
            ],
        ):
            taken[hour["model"], hour["pane_start"]] = hour["vectors"]
        wanted = []
        for one in found.values():
            place = one.model, hour_of(one.event_time)
            if budgets[one.model].has_room(one.event_time, taken[place]):
                taken[place] += 1
                wanted.append(one)
        return wanted

    def _embedded(
        self, texts: Mapping[Key, str], embedders: Mapping[str, Embedder]
    ) -> dict[Key, tuple[str, NDArray[np.float16]]]:
        """The base and the vector of each text, as they are stored."""
        by_base: dict[str, list[Key]] = defaultdict(list)
        of_base = {one.name: one for one in embedders.values()}
        for key in texts:
            by_base[embedders[key[0]].name].append(key)
        found: dict[Key, tuple[str, NDArray[np.float16]]] = {}
        for base, keys in by_base.items():
            vectors = of_base[base].vectors([texts[key] for key in keys]).astype(np.float16)
            found |= {key: (base, vector) for key, vector in zip(keys, vectors, strict=True)}
        return found

    def _store(
        self, wanted: Sequence[Wanted], vectors: Mapping[Key, tuple[str, NDArray[np.float16]]]
    ) -> None:
        """Store vectors, with their sums."""
        times = {(one.model, one.request_id): one.event_time for one in wanted}
        with self._engine.writing() as connection:
            if vectors and self.lease.holds(connection):
                for dimensions in {len(vector) for _, vector in vectors.values()}:
                    _index(connection, dimensions)
                _insert(connection, times, vectors)

    def _note(self, until: datetime) -> None:
        """Note that everything that was ingested before `until` is done."""
        with self._engine.writing() as connection:
            if self.lease.holds(connection):
                connection.execute("update control.embedding set looked_up_to = %s", [until])

    def _expire(self) -> None:
        with self._engine.writing() as connection:
            if self.lease.holds(connection):
                connection.execute(_EXPIRE)


def _texts(connection: Connection, wanted: Sequence[Wanted]) -> dict[Key, str]:
    """The texts of inputs, as far as there are some in them."""
    if not wanted:
        return {}
    models, ids = [one.model for one in wanted], [one.request_id for one in wanted]
    found = {
        (row["model"], row["request_id"]): input_text(row["input"])
        for row in connection.execute(_INPUTS, [models, ids])
    }
    return {key: text for key, text in found.items() if text.strip()}


def _index(connection: Connection, dimensions: int) -> None:
    """Make the index for vectors of so many dimensions, unless it is there."""
    name = f"input_vectors_{dimensions}"
    # `if not exists` would lock the table each time, and so end each vacuum of it.
    is_there = connection.execute("select to_regclass(%s)", [f"events.{name}"]).fetchone()
    if is_there != (None,) or dimensions > INDEXED:
        return
    connection.execute(
        SQL(
            "create index {name} on events.input_vectors "
            "using hnsw ((embedding::halfvec({n})) halfvec_cosine_ops) "
            "where vector_dims(embedding) = {n}"
        ).format(name=Identifier(name), n=Literal(dimensions))
    )


def _insert(
    connection: Connection,
    times: Mapping[Key, datetime],
    vectors: Mapping[Key, tuple[str, NDArray[np.float16]]],
) -> None:
    """Insert vectors, and add those that were not there to the sums of their hours."""
    columns: list[list[Any]] = [[], [], [], [], []]
    for (model, request_id), (base, vector) in vectors.items():
        text = f"[{','.join(map(str, vector.tolist()))}]"
        row = (model, request_id, base, times[model, request_id], text)
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    hours: dict[tuple[str, str, datetime], list[NDArray[np.float64]]] = defaultdict(list)
    for key in connection.execute(_INSERT, columns):
        base, vector = vectors[key]
        hours[key[0], base, hour_of(times[key])].append(vector.astype(np.float64))
    for place in sorted(hours):
        values = np.stack(hours[place])
        connection.execute(
            _ADD,
            [*place, len(values), values.sum(0).tolist(), np.square(values).sum(0).tolist()],
        )


_LOOKED_UP_TO = """
select embedding.looked_up_to, horizon.complete_until
from control.embedding as embedding
cross join events.ingest_horizon as horizon
"""
_BUDGETS = """
select
    policies.model, policies.embed_inputs,
    clock.event_clock - policies.vector_retention as kept_from
from headrace.model_policies as policies
inner join headrace.model_clock as clock on policies.model = clock.model
where policies.embed_inputs > 0
"""
_CAME_IN = """
select model, request_id, event_time, ingested_at
from events.inference
where
    ingested_at >= %(since)s and ingested_at < %(until)s
    and model = any(%(models)s) and variant != 'shadow' and input is not null
order by ingested_at
fetch first %(most)s rows with ties
"""
_TAKEN = """
select model, pane_start, vectors
from events.input_vector_hours
where (model, base, pane_start) in (
    select * from unnest(%s::text[], %s::text[], %s::timestamptz[])
)
"""
# One that ranks items has the input in each of its rows.
_INPUTS = """
select distinct on (model, request_id) model, request_id, inference.input
from unnest(%s::text[], %s::text[]) as asked (model, request_id)
inner join events.inference as inference using (model, request_id)
where inference.input is not null
order by model, request_id, inference.item_id
"""
_INSERT = """
insert into events.input_vectors (model, request_id, base, event_time, embedding)
select model, request_id, base, event_time, embedding::halfvec
from unnest(%s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::text[])
    as made (model, request_id, base, event_time, embedding)
on conflict do nothing
returning model, request_id
"""
_ADD = """
insert into events.input_vector_hours as stored
    (model, base, pane_start, vectors, sums, squares)
values (%s, %s, %s, %s, %s::double precision[], %s::double precision[])
on conflict (model, base, pane_start) do update set
    vectors = stored.vectors + excluded.vectors,
    sums = control.added(stored.sums, excluded.sums),
    squares = control.added(stored.squares, excluded.squares)
"""
_EXPIRE = """
delete from events.input_vectors as old
using headrace.model_clock as clock, headrace.model_policies as policies
where
    old.model = clock.model and old.model = policies.model
    and old.event_time < clock.event_clock - policies.vector_retention
"""
