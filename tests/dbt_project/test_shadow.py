"""How far shadow versions agree with what was served: a naive recompute."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from hypothesis import given

from headrace.engine import Engine
from headrace.events.log import EventLog
from tests.support.closeness import MICRO, close
from tests.support.label_oracle import utc
from tests.support.oracle import Oracle
from tests.support.rewards import (
    EXAMPLES,
    Row,
    Story,
    recent,
    same,
    stories,
    verdicts,
    wilson,
)
from tests.support.stored import empty


def shadows(oracle: Oracle) -> dict[tuple[str, str, str], Row]:
    pairs: dict[tuple[str, str, str], list[Any]] = defaultdict(list)
    for shadow in oracle.inference.values():
        served = oracle.inference.get(shadow.shadow_of or "")
        if (
            served is not None
            and served is not shadow
            and (served.model, served.item_id) == (shadow.model, shadow.item_id)
            and recent(oracle, shadow.model, utc(shadow.event_time))
        ):
            key = (shadow.model, shadow.model_version, served.model_version)
            pairs[key].append((shadow, served))
    rows = {}
    for (model, shadow_version, served_version), found in pairs.items():
        said = [(a.prediction, b.prediction) for a, b in found if a.prediction and b.prediction]
        agreed = sum(a == b for a, b in said)
        apart = [a.score - b.score for a, b in found if None not in (a.score, b.score)]
        low, high = wilson(agreed, len(said))
        row: Row = {
            "predictions": len(found),
            "compared": len(said),
            "agreed": agreed,
            "agreement_rate": agreed / len(said) if said else None,
            "agreement_rate_low": low,
            "agreement_rate_high": high,
            "scored": len(apart),
            "mean_score_difference": float(np.mean(np.abs(apart))) if apart else None,
            "mean_score_shift": float(np.mean(apart)) if apart else None,
        }
        for side, version, variants in (
            ("shadow", shadow_version, ("shadow",)),
            ("served", served_version, ("champion", "canary")),
        ):
            right = verdicts(
                oracle,
                [
                    event
                    for event in oracle.of(model)
                    if event.model_version == version
                    and event.variant in variants
                    and recent(oracle, model, utc(event.event_time))
                ],
            )
            row[f"{side}_labels"] = len(right)
            row[f"{side}_accuracy"] = sum(right) / len(right) if right else None
            low, high = wilson(sum(right), len(right))
            row[f"{side}_accuracy_low"], row[f"{side}_accuracy_high"] = low, high
        rows[model, shadow_version, served_version] = row
    return rows


@EXAMPLES
@given(story=stories())
def test_shadow_agreement(engine: Engine, log: EventLog, story: Story) -> None:
    empty(engine)
    story.govern(engine)

    def check(oracle: Oracle) -> None:
        rows = engine.rows("select * from headrace.shadow_agreement")
        keys = ("model", "shadow_version", "served_version")
        actual = {tuple(row[key] for key in keys): row for row in rows}
        wanted = shadows(oracle)
        assert actual.keys() == wanted.keys() and len(rows) == len(wanted)
        for key, want in wanted.items():
            for name in ("mean_score_difference", "mean_score_shift"):
                assert close(actual[key][name], want.pop(name), abs=MICRO), (key, name)
            same(actual[key], want)

    story.tell(log, check)
