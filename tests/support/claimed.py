"""A claim at the present moment, and a reader where served features are enough."""

from __future__ import annotations

from datetime import datetime
from typing import cast

import pandas as pd

from headrace.control.claims import Claim
from headrace.engine import Engine
from headrace.features.reader import FeatureReader
from headrace.features.service import ReadView
from headrace.settings import FEATURE_SERVICE


class NoFeatures:
    """A reader without features: those that were served are enough here."""

    def __init__(self) -> None:
        self.service = FEATURE_SERVICE
        self.names: list[str] = []
        self.others: frozenset[str] = frozenset()
        self.views: list[ReadView] = []

    def historical(self, frame: pd.DataFrame, _: object) -> pd.DataFrame:
        return frame[[]]


READER = cast(FeatureReader, NoFeatures())


def claimed(engine: Engine, model: str, number: int) -> Claim:
    (row,) = engine.rows(
        "select clock_timestamp() as now, event_clock from headrace.model_clock where model = %s",
        [model],
    )
    now: datetime = row["now"]
    run_id = f"{model} {number}"
    return Claim(f"{model}/1", model, "w", run_id, 1, now, now, row["event_clock"])
