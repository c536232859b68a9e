"""Receivers that answer, and notices of alerts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.receiving import Receiving, receiving


@pytest.fixture
def web() -> Iterator[Receiving]:
    with receiving() as state:
        yield state
