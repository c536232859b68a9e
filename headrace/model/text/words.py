"""Words and letters of an example, side by side, for a logistic regression."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from headrace.model.inputs import Example
from headrace.model.text.tfidf import Tfidf

CHARACTERS = 8_192  # that are read of a text
WORD = re.compile(r"\w\w+")
GROUP = 4  # letters


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


def letters(example: Example) -> list[str]:
    """Return each group of GROUP letters within what stands between blanks, which count as one
    letter before and after it. So endings, stems and misspelt words have groups in common.
    """
    words = [f" {word} " for word in example.text[:CHARACTERS].lower().split()]
    return [word[at : at + GROUP] for word in words for at in range(max(1, len(word) - GROUP + 1))]


@dataclass(frozen=True, slots=True)
class Words:
    """TF-IDF of terms and of letters; a text without letters, or a version of before, has none."""

    terms: Tfidf
    letters: Tfidf

    @classmethod
    def fit(cls, examples: Sequence[Example]) -> Words:
        return cls(Tfidf.fit(terms, examples), Tfidf.fit(letters, examples))

    @classmethod
    def of(cls, vocabulary: Mapping[str, Sequence[str]], idf: NDArray[np.float32]) -> Words:
        """Of what `vocabulary` and `idf` return."""
        count = len(vocabulary["terms"])
        return cls(
            Tfidf(terms, vocabulary["terms"], idf[:count]),
            Tfidf(letters, vocabulary["letters"], idf[count:]),
        )

    @property
    def vocabulary(self) -> dict[str, list[str]]:
        return {"terms": self.terms.vocabulary, "letters": self.letters.vocabulary}

    @property
    def idf(self) -> NDArray[np.float32]:
        """Of the terms, then of the letters."""
        return np.concatenate([self.terms.idf, self.letters.idf])

    def vectors(self, examples: Sequence[Example]) -> Any:
        """Return a sparse matrix, (n, terms + letters); both parts of a row have length 1 or 0."""
        width = len(self.terms.vocabulary)
        places: list[NDArray[np.int32]] = []
        weights: list[NDArray[np.float32]] = []
        ends = [0]
        for one in examples:
            for part, offset in ((self.terms, 0), (self.letters, width)):
                found, own = part.row(one)
                places.append(found + np.int32(offset))
                weights.append(own)
            ends.append(ends[-1] + len(places[-2]) + len(places[-1]))
        shape = len(examples), width + len(self.letters.vocabulary)
        none = np.zeros(0, np.int32)
        return csr_matrix(
            (np.concatenate([*weights, none.astype("f")]), np.concatenate([*places, none]), ends),
            shape,
        )
