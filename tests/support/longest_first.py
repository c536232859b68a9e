"""The order in which test modules run."""

from __future__ import annotations

from pathlib import Path

import pytest

# Files that take half a minute or more: they begin, so that no process ends with one alone.
LONGEST = (
    "dbt_project/test_dbt.py", "risingwave/test_views.py", "risingwave/test_deploy.py",
    "operate/test_up.py", "demo/test_demo.py", "events/kafka/test_faults.py",
    "events/kafka/test_topics.py", "dbt_project/test_panes.py", "events/test_kill.py",
    "docs/test_blocks.py",
    "dbt_project/test_views.py", "dbt_project/test_drift.py", "risingwave/test_unions.py",
    "trainer/test_loop.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, in the order in which they are listed."""
    root = Path(__file__).parents[1]
    places = {root / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))
