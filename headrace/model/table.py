"""Examples as a table: one row each, one column for each thing that is known of it.

    text            str, "" for none
    segment         str or null
    NAME            one for each feature of the training set, sorted: int, float, bool or str
    label           str; float where the task is regression or ranking
    weight, request_id, position, propensity, rejected   as in `TrainingExample`

The last six are those of a training set only. A feature that is called like another column, or
begins with ``features.``, is named ``features.NAME``.

What a feature is was settled by the training set: numbers, flags, or texts, which is also what a
mixture of several is taken for. In later examples a value that does not fit, a NaN or infinity is
missing, and a feature that did not occur in training is left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from headrace.model.inputs import Example, Scalar
from headrace.model.recipe import ANSWER, TrainingExample, TrainingSet

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Kind = Literal["int", "float", "bool", "str"]
KNOWN = ("text", "segment")
LEARNED = ("label", "weight", "request_id", "position", "propensity", "rejected")
PREFIX = "features."
MOST_CATEGORIES = 255
_INT64 = range(-(2**63), 2**63)


class Column(msgspec.Struct, frozen=True, omit_defaults=True):
    """One feature, or the segment.

    Attributes:
        categories: the values of a text, sorted, if they were at most MOST_CATEGORIES.
    """

    kind: Kind
    categories: tuple[str, ...] | None = None


class Columns(msgspec.Struct, frozen=True):
    """The columns of a training set, which later examples are given, too."""

    segment: Column
    features: dict[str, Column]

    @classmethod
    def of(cls, dataset: TrainingSet) -> Columns:
        """Learn the columns of a training set."""
        values: dict[str, list[Scalar]] = {ANSWER: []} if dataset.task == "preference" else {}
        for one in dataset.examples:
            for name, value in one.example.features.items():
                values.setdefault(name, []).append(value)
        features = {name: _column(values[name]) for name in sorted(values)}
        if dataset.task == "preference":
            features[ANSWER] = Column("str")
        return cls(_texts(one.example.segment for one in dataset.examples), features)

    def rows(self, examples: Iterable[Example]) -> list[dict[str, Scalar]]:
        """Return what is known of each example, by the name of the column."""
        return [
            {
                "text": one.text,
                "segment": one.segment,
                **{
                    column_name(name): _value(one.features.get(name), column.kind)
                    for name, column in self.features.items()
                },
            }
            for one in examples
        ]

    def table(self, dataset: TrainingSet) -> pa.Table:
        """Return the whole training set as an Arrow table."""
        import pyarrow as pa

        number = dataset.task in ("regression", "ranking")
        types = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "str": pa.string()}
        schema = pa.schema(
            [
                ("text", pa.string()),
                ("segment", pa.string()),
                *((column_name(name), types[one.kind]) for name, one in self.features.items()),
                ("label", pa.float64() if number else pa.string()),
                ("weight", pa.float64()),
                ("request_id", pa.string()),
                ("position", pa.int64()),
                ("propensity", pa.float64()),
                ("rejected", pa.string()),
            ]
        )
        known = self.rows(one.example for one in dataset.examples)
        learned = [_learned(one, number) for one in dataset.examples]
        rows = [{**one, **other} for one, other in zip(known, learned, strict=True)]
        return pa.Table.from_pylist(rows, schema)

    def frame(self, rows: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
        """Return columns as pandas has them.

        Numbers and flags are float64, and NaN where missing. A text with few values is a category,
        whose codes are those of the training set; values that did not occur there come after them.
        Any other text is an object, and None where missing.
        """
        import pandas as pd

        columns = {"segment": self.segment}
        columns |= {column_name(name): one for name, one in self.features.items()}
        numbers = {"label", "weight", "position", "propensity"}
        made: dict[str, Any] = {}
        for name, values in rows.items():
            column = columns.get(name)
            if column is None:
                number = name in numbers and not any(isinstance(one, str) for one in values)
                made[name] = pd.Series(values, dtype="float64" if number else "object")
            elif column.kind != "str":
                made[name] = pd.Series(values, dtype="float64")
            elif column.categories is None:
                made[name] = pd.Series(values, dtype="object")
            else:
                new = dict.fromkeys(one for one in values if one is not None)
                every = [*column.categories, *(one for one in new if one not in column.categories)]
                made[name] = pd.Series(pd.Categorical(values, categories=every))
        return pd.DataFrame(made)


def column_name(feature: str) -> str:
    """Return the name of a feature's column; no two features share one."""
    taken = feature in KNOWN or feature in LEARNED or feature.startswith(PREFIX)
    return PREFIX + feature if taken else feature


def _column(values: Sequence[Scalar]) -> Column:
    """What a feature with these values is; a number, if none is known."""
    kinds = {_kind(value) for value in values if value is not None}
    if kinds <= {"int", "float"}:
        return Column("int" if kinds == {"int"} else "float")
    if kinds == {"bool"}:
        return Column("bool")
    return _texts(map(_text, values))


def _texts(values: Iterable[str | None]) -> Column:
    found = sorted({value for value in values if value is not None})
    return Column("str", tuple(found) if len(found) <= MOST_CATEGORIES else None)


def _kind(value: Scalar) -> Kind:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if value in _INT64 else "float"
    return "float" if isinstance(value, float) else "str"


def _value(value: Scalar, kind: Kind) -> Scalar:
    """The value as its column has it; None where it does not fit."""
    if kind == "str":
        return _text(value)
    if value is None or isinstance(value, str) or isinstance(value, bool) != (kind == "bool"):
        return None
    if isinstance(value, int) and (kind == "bool" or (kind == "int" and value in _INT64)):
        return value
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _text(value: Scalar) -> str | None:
    """A text as it is, a number or a flag as JSON has it."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value) if math.isfinite(value) else None


def _learned(one: TrainingExample, number: bool) -> dict[str, Any]:
    return {
        "label": float(one.label) if number else one.label,
        "weight": one.weight,
        "request_id": one.request_id,
        "position": one.position,
        "propensity": one.propensity,
        "rejected": one.rejected,
    }
