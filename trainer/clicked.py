"""Rankings by what was clicked of them: losses and NDCG of whole requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from headrace.model.examination import CLIP, Examination, choice_weights, is_click
from headrace.model.examples import LabeledExample
from headrace.trainer.dataset import by_request
from headrace.trainer.paired import FLOOR, Floats


def first_rows(rows: Sequence[LabeledExample]) -> list[LabeledExample]:
    """The first row of each request, in their order."""
    return [items[0] for items in by_request(rows).values()]


class Requests:
    """Rows by request, in the order of `first_rows`, and what each row counts.

    Attributes:
        weights: of each metric, (requests,): log loss counts items by the inverse propensity of
            their choice; an order is judged where something of several items was clicked.
    """

    def __init__(self, rows: Sequence[LabeledExample], examination: Examination) -> None:
        at = {row.request_id: number for number, row in enumerate(first_rows(rows))}
        self._number = np.array([at[row.request_id] for row in rows], dtype=np.intp)
        self._clicked = np.array([is_click(row) for row in rows], dtype=np.float64)
        self._looks = np.array(examination.looked_at(rows, CLIP))
        self._each = np.array(choice_weights(rows, examination, CLIP))
        several = np.bincount(self._number) > 1
        self.weights: Mapping[str, Floats] = {
            "log_loss": self._sum(self._each),
            "ndcg": (several & (self._sum(self._clicked) > 0)).astype(np.float64),
        }

    def parts(self, said: Floats) -> dict[str, Floats]:
        """The metrics of each request, (requests,), of probabilities of a click, (rows,).

        The log loss is that of the click where the item was shown. In NDCG a click counts by the
        inverse propensity of a look (Joachims, Swaminathan and Schnabel 2017); it is 0 where
        nothing was clicked, and of NaN it is NaN.
        """
        p = np.clip(said, FLOOR, 1 - FLOOR) * self._looks
        losses = -(self._clicked * np.log(p) + (1 - self._clicked) * np.log1p(-p))
        gains = self._clicked / self._looks
        ideal = self._discounted(gains, gains)
        found = self._discounted(gains, said) / np.where(ideal > 0, ideal, 1.0)
        unknown = self._sum(np.isnan(said)) > 0
        return {
            "log_loss": self._sum(self._each * losses) / self.weights["log_loss"],
            "ndcg": np.where(unknown, np.nan, found),
        }

    def _sum(self, values: NDArray[np.generic]) -> Floats:
        return np.bincount(self._number, values.astype(np.float64)).astype(np.float64)

    def _discounted(self, gains: Floats, scores: Floats) -> Floats:
        """Discounted cumulative gain of each request; ties share their discounts.

        McSherry and Najork 2008, "Computing information retrieval performance measures
        efficiently in the presence of tied scores".
        """
        order = np.lexsort((-scores, self._number))
        number, score = self._number[order], scores[order]
        starts = np.r_[True, (np.diff(number) != 0) | (np.diff(score) != 0)]
        tied = np.cumsum(starts) - 1
        rank = np.arange(len(order)) - np.searchsorted(number, number)
        discount = 1 / np.log2(rank + 2)
        shared = (np.bincount(tied, discount) / np.bincount(tied))[tied]
        return np.bincount(number, gains[order] * shared).astype(np.float64)
