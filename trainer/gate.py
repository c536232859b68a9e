"""The gate: whether a candidate may be published, measured and compared with its rival."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from headrace.trainer.compare import HIGHER_IS_BETTER, Comparison, Judged, Pairs, slices
from headrace.trainer.paired import ALPHA, Flags

HOLDOUT = "holdout"  # the newest examples, not trained on
OLD = "old"  # old examples: has anything been forgotten?
MAX_NAMED = 20  # labels in a report
FEW = 10  # examples without the commonest label; by fewer little can be told


@dataclass(frozen=True, slots=True)
class GatePolicy:
    """What a candidate must reach. Shares are relative: 0.01 is 1% of the champion's value.

    The default metric is the log loss: it uses the whole probability of every example, so it tells
    two versions apart on holdouts where AUC and F1 still move by chance.

    Attributes:
        min_improvement: asked of the measured gain, which must also be more than chance. Below 0
            it is what a candidate may be worse: its whole interval must lie above.
        max_forgetting: a loss on the old examples beyond this rejects where it is more than chance.
        max_slice_drop: the same in one segment of the newest examples.
        min_slice: smaller slices decide nothing.
        suspect_auc: from here on it is too good to be true; 1: never.
    """

    metric: str = "log_loss"
    min_improvement: float = 0.005
    max_forgetting: float = 0.05
    max_slice_drop: float = 0.10
    min_slice: int = 50
    suspect_auc: float = 0.999

    def __post_init__(self) -> None:
        if self.metric not in HIGHER_IS_BETTER:
            raise ValueError(
                f"metric must be one of {', '.join(HIGHER_IS_BETTER)}, got {self.metric!r}"
            )


@dataclass(frozen=True, slots=True)
class Verdict:
    """`newest` is what was compared on the newest examples; None where nothing could be."""

    passed: bool
    reason: str
    metrics: dict[str, Any] = field(default_factory=dict)
    newest: Comparison | None = None


def decide(
    newest: Pairs,
    old: Pairs | None = None,
    policy: GatePolicy | None = None,
    *,
    positive: str | None = None,
    against: str = "the champion",
    seen: Flags | None = None,
) -> Verdict:
    """Whether the candidate may take the rival's place, by the newest examples.

    It must gain `min_improvement` or more, and more than chance gives a version that is as good
    (ALPHA). On the old examples and in segments it may lose what the policy allows, or what is no
    more than chance, ALPHA being divided by the number of these slices (Bonferroni). Examples whose
    label one side does not know are left out of all this, and so are those that the rival has
    `seen` in its training.

    Raises:
        ValueError: a probability is not finite.
    """
    policy = policy or GatePolicy()
    fresh = np.ones(len(newest), dtype=bool) if seen is None else ~seen
    unknown = Counter(newest.unknown(fresh))
    left_out = {
        "seen": int((~fresh).sum()),
        "unknown": unknown.total(),
        "unknown_labels": dict(unknown.most_common(MAX_NAMED)),
    }
    report: dict[str, Any] = {
        "against": against,
        "alpha": ALPHA,
        "left_out": left_out,
        "policy": asdict(policy),
    }
    note = _left_out(left_out, against)
    compared = newest.where(newest.known() & fresh)
    if not len(compared):
        return Verdict(False, f"no newest {newest.unit} to compare on{note}", report)
    note += _few(compared)

    parts = {HOLDOUT: compared, **slices(compared, policy.min_slice)}
    if old is not None and old.known().any():
        parts[OLD] = old.where(old.known())
    found = {name: part.compare(policy.metric, positive) for name, part in parts.items()}
    report["candidate"] = {name: dict(one.candidate) for name, one in found.items()}
    report["champion"] = {name: dict(one.rival) for name, one in found.items()}
    holdout = found.pop(HOLDOUT)
    shown = f"{policy.metric} on the {holdout.n:,} newest {newest.unit}s"
    gain = holdout.gain
    if gain is None:
        what = "there are too few" if holdout.n < 2 else "a label occurs less than twice"
        reason = f"{shown} cannot be measured: {what}{note}"
        return Verdict(False, reason, report, holdout)
    low = gain.at_least()
    report |= {"improvement": gain.value, "at_least": low, "spread": gain.spread}
    values = _values(holdout, policy.metric)
    better = f"{shown} {values} ({gain.value:+.1%}, at least {low:+.1%}, against {against}){note}"
    if gain.value < policy.min_improvement:
        reason = f"{better}: less than the {policy.min_improvement:.1%} asked"
        return Verdict(False, reason, report, holdout)
    if low <= min(policy.min_improvement, 0):
        return Verdict(False, f"{better}: this may be chance", report, holdout)
    worse = _worse_slice(found, policy, newest.unit)
    if worse:
        return Verdict(False, f"{better}, but {worse}", report, holdout)
    return Verdict(True, better, report, holdout)


def _worse_slice(found: Mapping[str, Comparison], policy: GatePolicy, unit: str) -> str | None:
    """What is said of the first slice that lost too much; None where there is none."""
    slices = {name: (one, one.gain) for name, one in found.items() if one.gain is not None}
    for name, (one, gain) in slices.items():
        allowed = policy.max_forgetting if name == OLD else policy.max_slice_drop
        if gain.value < -allowed and gain.chance() < ALPHA / len(slices):
            what = f"the old {unit}s" if name == OLD else name
            return (
                f"on {what} (n={gain.n:,}) {policy.metric} {_values(one, policy.metric)} is "
                f"{-gain.value:.1%} worse: more than the {allowed:.1%} allowed, and than chance"
            )
    return None


def _left_out(left_out: Mapping[str, Any], against: str) -> str:
    said = []
    if left_out["unknown"]:
        names = ", ".join(map(repr, list(left_out["unknown_labels"])[:3]))
        more = ", …" if len(left_out["unknown_labels"]) > 3 else ""
        said.append(
            f"{left_out['unknown']:,} with labels that one side does not know ({names}{more})"
        )
    if left_out["seen"]:
        said.append(f"{left_out['seen']:,} of the time that {against} was trained on")
    return f", without {' and '.join(said)}" if said else ""


def _few(compared: Pairs) -> str:
    """What is said where almost all examples have the same label."""
    if not isinstance(compared, Judged):
        return ""
    label, count = Counter(compared.actual).most_common(1)[0]
    others = len(compared) - count
    return f", of which only {others} are not {label!r}" if others < FEW else ""


def _values(compared: Comparison, metric: str) -> str:
    ours, theirs = compared.candidate[metric], compared.rival[metric]
    return f"{ours:.4f} from {theirs:.4f}"
