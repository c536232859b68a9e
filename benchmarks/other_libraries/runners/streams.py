"""Streams, logs and pairs: what River, obp, choix and ddsketch say. Data in, results out: JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

import choix
import numpy as np
from ddsketch import DDSketch
from obp.ope import InverseProbabilityWeighting, SelfNormalizedInverseProbabilityWeighting
from river.drift import ADWIN, PageHinkley


def main() -> None:
    sets = json.load(sys.stdin)
    hours = np.reshape(sets["errors"], (-1, 100)).mean(axis=1)
    coarse = PageHinkley(min_instances=2, threshold=0.5, alpha=1, mode="up")
    found = {
        "River": {
            "page_hinkley": first_alarm(PageHinkley(), sets["errors"]),
            "page_hinkley_hours": first_alarm(coarse, hours),
            "adwin": first_alarm(ADWIN(), sets["errors"]),
            "page_hinkley_fall": first_alarm(PageHinkley(), sets["errors"][::-1]),
            "adwin_fall": first_alarm(ADWIN(), sets["errors"][::-1]),
        },
        "obp": {arm: values(sets["arms"], arm) for arm in sorted({*sets["arms"]["arm"]})},
        "choix": strengths(sets["comparisons"]),
        "ddsketch": {
            "quantiles": quantiles(sets["numbers"]["current"]["heavy"]),
            "one to ten": quantiles(range(1, 11)),
        },
    }
    json.dump(found, sys.stdout)


def first_alarm(detector: Any, stream: Any) -> int | None:
    for place, value in enumerate(stream, start=1):
        detector.update(value)
        if detector.drift_detected:
            return place
    return None


def values(log: Any, arm: str) -> dict[str, Any]:
    names = sorted({*log["arm"]})
    chosen = np.zeros((len(log["arm"]), len(names), 1))
    chosen[:, names.index(arm)] = 1
    given = {
        "reward": np.array(log["reward"]),
        "action": np.array([names.index(each) for each in log["arm"]]),
        "pscore": np.array(log["propensity"]),
        "action_dist": chosen,
    }
    snips = SelfNormalizedInverseProbabilityWeighting()
    interval = snips.estimate_interval(**given, random_state=7)
    return {
        "ips": InverseProbabilityWeighting().estimate_policy_value(**given),
        "snips": snips.estimate_policy_value(**given),
        "low": interval["95.0% CI (lower)"],
        "high": interval["95.0% CI (upper)"],
    }


def strengths(pairs: Any) -> dict[str, Any]:
    names = sorted({name for pair in pairs for name in pair})
    data = [(names.index(won), names.index(lost)) for won, lost in pairs]
    matrix = np.zeros((len(names), len(names)))
    for won, lost in data:
        matrix[won, lost] += 1
    halves = matrix + 0.5 * (matrix + matrix.T > 0)
    fits: dict[str, Any] = {
        "ilsr_pairwise": lambda: choix.ilsr_pairwise(len(names), data),
        "ilsr_pairwise, alpha=0.01": lambda: choix.ilsr_pairwise(len(names), data, alpha=0.01),
        "opt_pairwise": lambda: choix.opt_pairwise(len(names), data),
        "ilsr_pairwise_dense, half a win each": lambda: choix.ilsr_pairwise_dense(halves),
    }
    found: dict[str, Any] = {}
    for name, fit in fits.items():
        try:
            found[name] = dict(zip(names, np.exp(fit()).tolist(), strict=True))
        except (ValueError, RuntimeError, np.linalg.LinAlgError) as error:
            found[name] = f"{type(error).__name__}: {error}"
    return found


def quantiles(numbers: Any) -> list[float]:
    sketch: Any = DDSketch(0.01)
    for number in numbers:
        sketch.add(number)
    return [sketch.get_quantile_value(share) for share in (0.5, 0.95, 0.99)]


if __name__ == "__main__":
    main()
