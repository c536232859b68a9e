"""Words and letters: the same groups and the same weights as scikit-learn's."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from headrace.model.inputs import Example
from headrace.model.text.tfidf import Tfidf
from headrace.model.text.words import GROUP, Words, letters, terms

REFERENCE = TfidfVectorizer(
    analyzer="char_wb", ngram_range=(GROUP, GROUP), sublinear_tf=True, dtype=np.float32
)
TEXT = st.text(st.sampled_from("abcé. \n\u00a0日ẞ"), max_size=30)


@given(st.one_of(TEXT, st.text(max_size=30)))
@example("a")
@example("abc ab")
def test_letters_are_those_of_char_wb(text: str) -> None:
    assert letters(Example(text)) == REFERENCE.build_analyzer()(text)


@settings(max_examples=50)
@given(st.lists(TEXT, min_size=1, max_size=8).filter(lambda texts: any(map(str.split, texts))))
def test_letters_are_weighed_as_char_wb(texts: list[str]) -> None:
    wanted = REFERENCE.fit_transform(texts)
    examples = [Example(text) for text in texts]
    ours = Tfidf.fit(letters, examples)
    assert ours.vocabulary == list(REFERENCE.get_feature_names_out())
    got = np.zeros(wanted.shape, np.float32)
    for row, one in zip(got, examples, strict=True):
        places, weights = ours.row(one)
        assert weights.dtype == np.float32 and (np.diff(places) > 0).all()
        row[places] = weights
    np.testing.assert_allclose(got, wanted.toarray(), atol=1e-6)


def test_what_is_saved_gives_the_same_vectors() -> None:
    examples = [Example("the parser overflows", "eu"), Example("overflowing", None, {"vip": True})]
    words = Words.fit(examples)
    again = Words.of(words.vocabulary, words.idf)
    wanted = words.vectors(examples)
    assert wanted.shape == (2, len(words.idf))
    np.testing.assert_array_equal(again.vectors(examples).toarray(), wanted.toarray())
    # No word in common, but letters.
    assert not set(terms(examples[0])) & set(terms(examples[1]))
    assert (wanted[0] @ wanted[1].T).toarray().item() > 0.1


def test_examples_without_text_have_no_letters() -> None:
    examples = [Example("", "eu"), Example("", "us")]
    words = Words.fit(examples)
    assert words.vocabulary == {"terms": ["=eu", "=us"], "letters": []}
    assert words.vectors(examples).shape == (2, 2)
