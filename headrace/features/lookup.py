"""Features at request time: what is asked by many requests together, one query for each view.

The definitions and the store are Feast's; its messages are left out, which cost more than the
query (docs/features.md). `tests/features/test_lookup.py` compares both ways.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from feast import ValueType

from headrace.features.online_store import Key, Newest
from headrace.features.service import ComputedView, ReadView
from headrace.features.view_sql import ViewSql

BOUNDS = {ValueType.INT32: 2**31, ValueType.INT64: 2**63}


@dataclass(frozen=True, slots=True)
class Needed:
    """What it takes to know some features of a service."""

    names: tuple[str, ...]
    views: tuple[ReadView, ...]
    computed: tuple[ComputedView, ...]

    @classmethod
    def of(
        cls, names: Sequence[str], views: Sequence[ReadView], computed: Sequence[ComputedView]
    ) -> Needed:
        """Return what these names need of the views of a service."""
        wanted = set(names)
        made = tuple(view for view in computed if wanted & set(view.names))
        sources = frozenset[str]().union(*(view.sources for view in made))
        read = (view for view in views if view.name in sources or wanted & set(view.names))
        return cls(tuple(names), tuple(read), made)


class Reads(Protocol):
    """What reads views: a `FeatureReader`."""

    def newest(self, reads: Sequence[tuple[ViewSql, Collection[Key]]]) -> list[dict[Key, Newest]]:
        """Return the newest rows of the entities that each view knows."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Features of one entity, which has the join keys and may have more."""

    reader: Reads
    needed: Needed
    entity: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LookedUp:
    """What is known of an entity now.

    Attributes:
        features: by name; None where there is no value.
        known_at: of each view that was read the event time of the row; None where it has none.
    """

    features: dict[str, Any] = field(default_factory=dict)
    known_at: dict[str, datetime | None] = field(default_factory=dict)


def look_up(asked: Sequence[Asked]) -> list[LookedUp]:
    """Return what was asked for, in order, by one query for each view.

    A view has no row for an entity without one of its join keys, or with one that its type cannot
    hold. Equal views of several services are read once.

    Raises:
        psycopg.Error: the database cannot be reached, or a view is not as declared.
        ValueError: the function of an on-demand view returned something else than declared.
    """
    keys: dict[str, dict[Key, None]] = {}
    views: dict[str, ViewSql] = {}
    places = [[(view, _key(view, one.entity)) for view in one.needed.views] for one in asked]
    for of_one in places:
        for view, key in of_one:
            if key is not None:
                keys.setdefault(view.sql.identity, {})[key] = None
                views.setdefault(view.sql.identity, view.sql)
    rows: dict[str, dict[Key, Newest]] = {}
    if views:
        reads = [(view, keys[identity]) for identity, view in views.items()]
        rows = dict(zip(views, asked[0].reader.newest(reads), strict=True))
    return [_found(one, of_one, rows) for one, of_one in zip(asked, places, strict=True)]


def _found(
    asked: Asked,
    views: Sequence[tuple[ReadView, Key | None]],
    rows: Mapping[str, Mapping[Key, Newest]],
) -> LookedUp:
    read: dict[str, Any] = {}
    known_at: dict[str, datetime | None] = {}
    for view, key in views:
        row = None if key is None else rows[view.sql.identity].get(key)
        if row is None:
            known_at[view.name] = None
            read |= dict.fromkeys(view.names)
        else:
            known_at[view.name], values = row
            read |= {name: values[place] for name, place in view.places}
    for computed in asked.needed.computed:
        read |= computed.of(read)
    return LookedUp({name: read[name] for name in asked.needed.names}, known_at)


def _key(view: ReadView, entity: Mapping[str, Any]) -> Key | None:
    """Return the values of the join keys; None where one is missing, or none of its type."""
    values = []
    for name, kind in view.key_types:
        value = entity.get(name)
        if value is None:
            return None
        if (bound := BOUNDS.get(kind)) is not None:
            try:
                value = int(value)
            except ValueError:
                return None
            if not -bound <= value < bound:
                return None
        elif kind is ValueType.STRING:
            value = str(value)
        values.append(value)
    return tuple(values)
