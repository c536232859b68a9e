"""Words, pairs of neighbours and name=value pairs: TF-IDF, for a logistic regression."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.model.inputs import Example

MOST_TERMS = 50_000
SMALL = 500  # examples; in a smaller set a term counts though it occurs once
CHARACTERS = 8_192  # that are read of a text
WORD = re.compile(r"\w\w+")


def terms(example: Example) -> list[str]:
    """Return the words and pairs of words of an example, and its segment and categories."""
    words = WORD.findall(example.text[:CHARACTERS].lower())
    named = [
        f"{name}={value}"
        for name, value in example.features.items()
        if isinstance(value, str | bool)
    ]
    if example.segment is not None:
        named.append(f"={example.segment}")
    return [*words, *map(" ".join, pairwise(words)), *named] or [""]


class Words:
    """TF-IDF vectors with sublinear counts over a vocabulary."""

    def __init__(self, vocabulary: Sequence[str], idf: NDArray[np.float32] | None = None) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.vocabulary = list(vocabulary)
        self._vectors = TfidfVectorizer(
            analyzer=terms,
            lowercase=False,
            sublinear_tf=True,
            vocabulary=self.vocabulary,
            dtype=np.float32,
        )
        if idf is not None:
            self._vectors.idf_ = idf

    @classmethod
    def fit(cls, examples: Sequence[Example]) -> Words:
        """Choose the terms that occur in most examples, and weigh them by how rare they are."""
        counts = Counter(term for one in examples for term in dict.fromkeys(terms(one)))
        least = 1 if len(examples) < SMALL else 2
        common = counts.most_common(MOST_TERMS)
        kept = [term for term, count in common if count >= least] or [term for term, _ in common]
        words = cls(sorted(kept))
        words._vectors.fit(examples)
        return words

    @property
    def idf(self) -> NDArray[np.float32]:
        return np.asarray(self._vectors.idf_, np.float32)

    def vectors(self, examples: Sequence[Example]) -> Any:
        """Return a sparse matrix, (n, terms), whose rows have the length 1 or 0."""
        return self._vectors.transform(examples)
