"""A sender of labels, and a reader of the features that they make."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from headrace.engine import Engine
from headrace.events.log import EventLog
from headrace.features.reader import FeatureReader
from tests.support.policies import set_policies
from tests.support.segment_labels import Labels


@pytest.fixture
def reader(engine: Engine) -> Iterator[FeatureReader]:
    with FeatureReader(engine) as opened:
        yield opened


@pytest.fixture
def labels(engine: Engine, log: EventLog) -> Labels:
    set_policies(engine, positive_label="yes")
    return Labels(log)
