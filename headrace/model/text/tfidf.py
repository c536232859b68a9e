"""Sparse vectors of what a text is made of, weighed by how rare it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from headrace.model.inputs import Example

MOST_TERMS = 50_000
SMALL = 500  # examples; in a smaller set a term counts though it occurs once

Analyzer = Callable[[Example], list[str]]


class Tfidf:
    """TF-IDF vectors with sublinear counts over a vocabulary, which may be empty.

    `analyzer` says which terms an example has, as often as each occurs; `idf` is of the
    vocabulary, (terms,).
    """

    def __init__(
        self, analyzer: Analyzer, vocabulary: Sequence[str], idf: NDArray[np.float32]
    ) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.vocabulary, self.idf = list(vocabulary), idf
        if self.vocabulary:
            self._vectors = TfidfVectorizer(
                analyzer=analyzer,
                lowercase=False,
                sublinear_tf=True,
                vocabulary=self.vocabulary,
                dtype=np.float32,
            )
            self._vectors.idf_ = idf

    @classmethod
    def fit(cls, analyzer: Analyzer, examples: Sequence[Example]) -> Tfidf:
        """Choose the terms that occur in most examples, and weigh them by how rare they are."""
        counts = Counter(term for one in examples for term in dict.fromkeys(analyzer(one)))
        least = 1 if len(examples) < SMALL else 2
        common = counts.most_common(MOST_TERMS)
        kept = [term for term, count in common if count >= least] or [term for term, _ in common]
        vocabulary = sorted(kept)
        seen = np.array([counts[term] for term in vocabulary], np.float64)
        idf = np.log((1 + len(examples)) / (1 + seen)) + 1
        return cls(analyzer, vocabulary, idf.astype(np.float32))

    def vectors(self, examples: Sequence[Example]) -> Any:
        """Return a sparse matrix, (n, terms), whose rows have the length 1 or 0."""
        if not self.vocabulary:
            return csr_matrix((len(examples), 0), dtype=np.float32)
        return self._vectors.transform(examples)
