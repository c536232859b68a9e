"""One example with its final label, as a training set has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from headrace.model.inputs import Example


@dataclass(frozen=True, slots=True)
class Logged:
    """What the server that predicted answered then."""

    model_version: str
    prediction: str | None = None
    score: float | None = None
    probabilities: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class LabeledExample:
    """One prediction and what became its label. Times are UTC.

    Attributes:
        known_at: when the label was.
        kind: of the feedback that made the label; `default` for silence.
        position: where the item was shown, from 1.
        propensity: the probability of this very prediction, as it was logged.
        logged: None where nothing was answered.
        label: what was right. Of a preference the answer that won, of a text to generate that text;
            then the text of the example is the prompt.
        user_id: whom the prediction was for; of a preference who preferred.
        rejected, rejected_request_id: of a preference the answer that lost, and its request.
    """

    request_id: str
    event_time: datetime
    known_at: datetime
    example: Example
    label: str
    item_id: str | None = None
    user_id: str | None = None
    position: int | None = None
    propensity: float | None = None
    kind: str = "label"
    logged: Logged | None = None
    rejected: str | None = None
    rejected_request_id: str | None = None

    def features_unlike(self, other: LabeledExample) -> list[str]:
        """Return the names of the features that differ, or that one of the two lacks."""
        ours, theirs = self.example.features, other.example.features
        missing = object()
        return sorted(
            name
            for name in ours.keys() | theirs.keys()
            if ours.get(name, missing) != theirs.get(name, missing)
        )
