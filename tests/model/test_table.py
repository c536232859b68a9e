"""A table of examples has the values of the examples, under names that no two features share."""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.model.inputs import Example, Scalar
from headrace.model.recipe import TrainingExample, TrainingSet
from headrace.model.table import KNOWN, LEARNED, MOST_CATEGORIES, Columns, column_name

NAMES = st.one_of(
    st.sampled_from([*KNOWN, *LEARNED, "features.label", "features.features.x", "x", "model__x"]),
    st.text(min_size=1, max_size=5),
)
WORDS = st.text(max_size=5)
VALUES: list[st.SearchStrategy[Scalar]] = [
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    WORDS,
]


def dataset(examples: list[Example], task: str = "classification") -> TrainingSet:
    number = task in ("regression", "ranking")
    labels = [str(n / 3) if number else "yes" for n in range(len(examples))]
    learned = [
        TrainingExample(one, label, 0.5, f"r{n}", None if n % 2 else n, n / 7)
        for n, (one, label) in enumerate(zip(examples, labels, strict=True))
    ]
    return TrainingSet("m", task, learned)  # type: ignore[arg-type]


@st.composite
def of_one_type(draw: st.DrawFn) -> list[Example]:
    """Examples whose features are of one type each, or missing."""
    types = draw(st.dictionaries(NAMES, st.sampled_from(VALUES), max_size=5))
    one = st.builds(
        Example,
        WORDS,
        st.none() | WORDS,
        st.fixed_dictionaries({}, optional={n: st.none() | v for n, v in types.items()}),
    )
    return draw(st.lists(one, min_size=1, max_size=6))


@settings(max_examples=60, deadline=None)
@given(of_one_type())
def test_values_come_back_from_parquet(examples: list[Example]) -> None:
    data = dataset(examples)
    columns = Columns.of(data)
    sink = pa.BufferOutputStream()
    pq.write_table(columns.table(data), sink)
    back = pq.read_table(pa.BufferReader(sink.getvalue())).to_pylist()
    for row, learned, example in zip(back, data.examples, examples, strict=True):
        assert (row["text"], row["segment"]) == (example.text, example.segment)
        assert (row["label"], row["weight"]) == (learned.label, learned.weight)
        assert (row["position"], row["propensity"]) == (learned.position, learned.propensity)
        for name in columns.features:
            got, wanted = row[column_name(name)], example.features.get(name)
            assert (got, type(got)) == (wanted, type(wanted))


@settings(max_examples=60, deadline=None)
@given(st.lists(NAMES, unique=True))
def test_no_two_features_share_a_column(names: list[str]) -> None:
    columns = {column_name(name) for name in names}
    assert len(columns) == len(names)
    assert not columns & {*KNOWN, *LEARNED}


@settings(max_examples=60, deadline=None)
@given(
    of_one_type(),
    st.lists(st.dictionaries(NAMES, st.none() | st.one_of(VALUES) | st.just(math.nan))),
)
def test_later_examples_have_the_columns_of_the_training_set(
    learned: list[Example], later: list[dict[str, Scalar]]
) -> None:
    columns = Columns.of(dataset(learned))
    rows = json.loads(json.dumps(columns.rows(Example("", None, one) for one in later)))
    for row in rows:
        assert row.keys() == {*KNOWN, *map(column_name, columns.features)}
    if rows:
        train = columns.frame({n: [r[n] for r in columns.rows(learned)] for n in rows[0]})
        frame = columns.frame({name: [row[name] for row in rows] for name in rows[0]})
        for name in frame:
            same = (train[name].dtype.name, frame[name].dtype.name)
            assert len(set(same)) == 1, name


def test_what_a_mixture_or_a_value_of_another_type_becomes() -> None:
    mixed: list[Scalar] = [1, "one", True, 1.5, None]
    columns = Columns.of(
        dataset([Example("", None, {"mixed": one, "n": 2, "flag": True}) for one in mixed])
    )
    (row,) = columns.rows([Example("", None, {"mixed": False, "n": "two", "flag": 1, "new": 1})])
    assert row == {"text": "", "segment": None, "mixed": "false", "n": None, "flag": None}
    assert columns.features["mixed"].categories == ("1", "1.5", "one", "true")
    (row,) = columns.rows([Example("", None, {"n": 10**400, "mixed": math.inf})])
    assert (row["n"], row["mixed"]) == (None, None)


def test_a_preference_has_a_column_for_the_answer() -> None:
    columns = Columns.of(dataset([Example("asked", None, {"n": 1})], "preference"))
    (row,) = columns.rows([Example("asked", None, {"answer": "such a one"})])
    assert row["answer"] == "such a one"
    assert columns.frame({"answer": ["other"]})["answer"].dtype == object


def test_codes_of_categories_stay_and_new_values_are_kept() -> None:
    columns = Columns.of(dataset([Example("", "eu", {"plan": one}) for one in "bca"]))
    frame = columns.frame({"segment": ["us", None], "plan": ["z", "c"]})
    assert list(frame["plan"].cat.codes) == [3, 2]
    assert list(frame["plan"]) == ["z", "c"]
    assert frame["segment"].isna().tolist() == [False, True]


def test_a_text_of_many_values_is_no_category() -> None:
    many = [Example("", None, {"title": f"t{n}"}) for n in range(MOST_CATEGORIES + 1)]
    frame = Columns.of(dataset(many)).frame({"title": ["t1", None, "new"]})
    assert frame["title"].dtype == object
    assert list(frame["title"]) == ["t1", None, "new"]


def test_numbers_are_floats_and_labels_of_numbers_are_numbers() -> None:
    data = dataset([Example("", None, {"n": n, "flag": n > 1}) for n in range(3)], "regression")
    columns = Columns.of(data)
    frame = columns.frame(columns.table(data).to_pydict())
    for name in ("n", "flag", "label", "weight", "position", "propensity"):
        assert frame[name].dtype == np.float64, name
    assert list(frame["flag"]) == [0.0, 0.0, 1.0]
