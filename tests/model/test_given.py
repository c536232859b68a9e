"""What a version is given of an example."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import given as drawn
from hypothesis import strategies as st
from numpy.typing import NDArray

from headrace.model.given import given
from headrace.model.inputs import Example, Id, Scalar
from headrace.model.recipe import ANSWER

NAMES = ("age", "plan", "item_id", ANSWER)


class Reader:
    """A version that answers what features it read."""

    labels: tuple[str, ...] = ()
    features: tuple[str, ...] = ()

    def predict(self, examples: Sequence[Example]) -> NDArray[Any]:
        return np.array([dict(one.features) for one in examples], dtype=object)


@drawn(
    st.dictionaries(st.sampled_from(NAMES), st.integers(), max_size=4),
    st.none() | st.lists(st.sampled_from(NAMES)).map(tuple),
    st.lists(st.sampled_from(["item_id", "user_id"]), unique=True).map(tuple),
    st.none() | st.text(max_size=3),
)
def test_features_are_those_declared_and_ids_beside_them(
    features: dict[str, int],
    names: tuple[str, ...] | None,
    ids: tuple[Id, ...],
    item: str | None,
) -> None:
    example = Example("text", "eu", features, item, "u1")
    (read,) = given(Reader(), "ranking", names, ids).predict([example])
    wanted: dict[str, Scalar] = {
        name: value for name, value in features.items() if names is None or name in names
    }
    own: dict[Id, str | None] = {"item_id": item, "user_id": "u1"}
    for one in ids:
        value = features.get(one, own[one])
        if value is not None:
            wanted[one] = value
    assert read == wanted
    again = example.given(names, ids)
    assert again.given(names, ids) == again
    (judged,) = given(Reader(), "preference", names, ids).predict([example])
    assert judged.get(ANSWER) == features.get(ANSWER)
