"""What the views of rollouts and experiments should hold: SciPy over plain lists of rewards."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from headrace.engine import Engine
from headrace.events.contract import Inference, ModelEvent, Topic, parse
from headrace.events.log import EventLog
from tests.support.label_oracle import Silence, utc
from tests.support.oracle import Oracle
from tests.support.policies import STRETCHES, set_policies, stretched
from tests.support.streams import LABELS, MODELS, START, Stream, send, streams
from tests.support.units import Effects

Row = dict[str, Any]

# Doubles added up, and squared, in another order.
ROUNDING = 1e-9
# The root of a variance that rounding alone made, where all rewards are equal.
RESIDUAL = 1e-7
# An exponent carries its own rounding as often as it is large; the least p-value is exp(-700).
EXPONENT = 1e-6
VANISHING = 1e-300
MONTH = timedelta(days=30)
EXAMPLES = settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Story:
    """A stream that is told batch by batch, after the lives of its versions."""

    def __init__(
        self, stream: Stream, lives: list[ModelEvent], silence: Silence | None = None
    ) -> None:
        self.stream = stream
        self.lives = lives
        self.silence = {MODELS[0]: silence} if silence else {}

    def govern(self, engine: Engine) -> None:
        """Set the policies by which silence is a label, or not."""
        terms = self.silence.get(MODELS[0], Silence(""))
        set_policies(
            engine, MODELS[0], default_label=terms.label,
            label_window=f"{terms.window.total_seconds()} seconds",
        )  # fmt: skip

    def tell(self, log: EventLog, check: Callable[[Oracle], None]) -> None:
        """Send batch by batch, and check after each against all that was sent so far."""
        steps: list[tuple[Topic, Any]] = [("model_events", life) for life in self.lives]
        send(log, steps)
        inference: dict[str, Any] = {}
        feedback: dict[str, Any] = {}
        for batch in self.stream.batches:
            send(log, batch)
            for topic, event in batch:
                if topic == "inference":
                    inference.setdefault(event.request_id, event)  # type: ignore[union-attr]
                else:
                    feedback.setdefault(event.feedback_id, event)  # type: ignore[union-attr]
            if inference:
                check(Oracle(inference, feedback, silence=self.silence))


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """Draw a story of hours or months: a few events at their worst, or a crowd of plain ones."""
    stretch = draw(STRETCHES)
    crowded = draw(st.booleans())
    steps = draw(st.lists(_steps, max_size=6))
    if crowded:
        stream = crowd(random.Random(draw(st.integers(0, 2**32))))
        steps += [(MODELS[0], "v1", "promoted", -700), (MODELS[0], "v2", "canary", -650)]
    else:
        stream = draw(streams())
    ids = draw(st.permutations(range(len(steps))))
    lives = [
        {
            "event_id": f"e{ids[number]}",
            "event_time": (START + timedelta(minutes=minutes * stretch)).isoformat(),
            "model": model,
            "model_version": version,
            "event": event,
        }
        for number, (model, version, event, minutes) in enumerate(steps)
    ]
    return Story(
        stretched(stream, stretch),
        [cast(ModelEvent, parse("model_events", life)) for life in lives],
        draw(SILENCES),
    )


SILENCES = st.sampled_from(
    [None, *(Silence("no", timedelta(minutes=m)) for m in (0, 7, 300, 4_320)), Silence("0")]
)
_steps = st.tuples(
    st.sampled_from(MODELS),
    st.sampled_from(["v1", "v2", "v3"]),
    st.sampled_from(["trained", "promoted", "canary", "canary", "rolled_back"]),
    st.integers(-20, 80).map(lambda halves: 30 * halves),
)
ROLES = [
    ("v1", "champion"), ("v1", "champion"), ("v2", "canary"), ("v1", "holdout"),
    ("v1", "explore"), ("v3", "shadow"),
]  # fmt: skip


def crowd(rng: random.Random) -> Stream:
    """150 predictions of five roles, most of them judged, by labels alone or in many ways."""
    quality = {variant: rng.random() for _, variant in ROLES}
    plain = rng.random() < 0.5
    users = rng.choice([None, 3, 40, 1000])
    events: list[tuple[Topic, Row]] = []
    for i in range(150):
        version, variant = rng.choice(ROLES)
        asked = START + timedelta(minutes=rng.randrange(2400))
        prediction = rng.choice(LABELS)
        inference: Row = {
            "request_id": f"r{i}", "event_time": asked.isoformat(),
            "model": MODELS[rng.random() < 0.1], "model_version": version, "variant": variant,
            "prediction": prediction, "score": rng.choice([None, rng.random()]),
            "propensity": rng.choice([None, 1.0, 0.5, 0.25, 0.1]),
            "target_propensity": rng.choice([None, 0.0, 0.5, 0.25, 1.0]),
            "position": rng.choice([None, 1, 2, 100, 5000]),
            "latency_ms": rng.choice([None, rng.expovariate(0.01)]),
            "user_id": users and rng.choice([None, f"u{rng.randrange(users)}"]),
            "session_id": rng.choice([None, f"s{rng.randrange(99)}"]) if users else None,
            "segment": rng.choice([None, "a"]), "error": rng.choice([None, None, "timeout"]),
        }  # fmt: skip
        if variant == "shadow":
            inference["shadow_of"] = f"r{rng.randrange(150)}"
        events.append(("inference", inference))
        if rng.random() < 0.8:
            right = rng.random() < quality[variant]
            held = prediction if right else LABELS[1 - LABELS.index(prediction)]
            said: Row = {"kind": "label", "label": held}
            if not plain:
                rewarded: Row = {"kind": "purchase", "value": rng.choice([-2, 0.25, 3, 40])}
                preferred = {"kind": "preference", "rejected_request_id": f"r{rng.randrange(150)}"}
                said = rng.choice([said, {"kind": "click"}, rewarded, preferred])
            known = asked + timedelta(minutes=rng.expovariate(0.01))
            said |= {"feedback_id": f"f{i}", "request_id": f"r{i}", "event_time": known.isoformat()}
            events.append(("feedback", said))
    rng.shuffle(events)
    parsed = [(topic, parse(topic, event)) for topic, event in events]
    cut = rng.randrange(len(parsed))
    return Stream([batch for batch in (parsed[:cut], parsed[cut:]) if batch])


LIFE = ("trained", "shadow", "canary", "promoted", "rejected", "rolled_back", "retired")


def in_order(lives: Iterable[ModelEvent]) -> list[ModelEvent]:
    """Steps as they were taken: by time, at the same instant as a life goes, then by id."""
    return sorted(lives, key=lambda e: (utc(e.event_time), LIFE.index(e.event), e.event_id))


def recent(oracle: Oracle, model: str, time: datetime, step: int = 3600) -> bool:
    """Whether the pane of a time starts within 30 days behind the model's clock."""
    return floor(time, step) > oracle.clock(model) - MONTH


def floor(time: datetime, step: int) -> datetime:
    return datetime.fromtimestamp(utc(time).timestamp() // step * step, UTC)


def rewards(oracle: Oracle, events: Iterable[Inference]) -> list[float]:
    """The reward of every prediction whose label counts."""
    return [oracle.reward(event) for event in events if event.request_id in oracle.settled]


def verdicts(oracle: Oracle, events: Iterable[Inference]) -> list[bool]:
    """Whether each prediction was right, where both the prediction and the label are classes."""
    pairs = [
        oracle.judged(event, oracle.settled[event.request_id].label)
        for event in events
        if event.request_id in oracle.settled
    ]
    return [held == said for held, said in pairs if said is not None and held is not None]


def wilson(successes: float, trials: float) -> tuple[float | None, float | None]:
    """The roots of (p - share)^2 = z^2 p (1 - p) / n."""
    if not trials:
        return None, None
    share, by = successes / trials, float(stats.norm.ppf(0.975)) ** 2 / trials
    middle, reach = share + by / 2, math.sqrt(by * share * (1 - share) + by**2 / 4)
    return (middle - reach) / (1 + by), (middle + reach) / (1 + by)


def is_share(values: Iterable[float]) -> bool:
    return all(value in (0, 1) for value in values)


def interval(
    values: list[float], share: bool, effect: float | None = 1
) -> tuple[float | None, float | None]:
    """Around a mean: Wilson's of a share, else the normal one; of rewards worth 1 / effect each."""
    if effect is None:
        return None, None
    if share:
        return wilson(sum(values) / effect, len(values) / effect)
    if len(values) < 2:
        return None, None
    reach = stats.norm.ppf(0.975) * math.sqrt(effect * np.var(values, ddof=1) / len(values))
    return float(np.mean(values)) - reach, float(np.mean(values)) + reach


Daily = dict[datetime, list[float]]


def daily(oracle: Oracle, events: Iterable[Inference]) -> Daily:
    """The same rewards, by the day of the prediction."""
    found: Daily = {}
    for event in events:
        if earned := rewards(oracle, [event]):
            found.setdefault(floor(event.event_time, 86_400), []).extend(earned)  # type: ignore[arg-type]
    return found


def compared(
    days: Daily, base_days: Daily, name: str, effects: Effects, alpha: float = 0.05
) -> Row:
    """Columns of the macro compared_rewards."""
    tested, base = ([x for day in side.values() for x in day] for side in (days, base_days))
    share = is_share([*tested, *base])
    low, high = interval(tested, share, effects.side)
    base_low, base_high = interval(base, share, effects.base)
    row: Row = {
        "labels": len(tested),
        f"{name}_labels": len(base),
        "measure": ("share" if share else "mean") if tested or base else None,
        "mean_reward": float(np.mean(tested)) if tested else None,
        "mean_reward_low": low,
        "mean_reward_high": high,
        f"{name}_mean_reward": float(np.mean(base)) if base else None,
        f"{name}_mean_reward_low": base_low,
        f"{name}_mean_reward_high": base_high,
        "unit_groups": effects.unit_groups if tested or base else None,
        "design_effect": effects.difference if tested or base else None,
        **dict.fromkeys(["difference", "difference_low", "difference_high", "z", "p_value"]),
        **dict.fromkeys(["always_valid_p_value", "always_valid_low", "always_valid_high"]),
    }
    pairs = [(days[day], base_days[day]) for day in days if day in base_days]
    if not pairs:
        return row
    weight = np.array([1 / (1 / len(a) + 1 / len(b)) for a, b in pairs])
    share_of_day = weight / weight.sum()
    row["difference"] = d = float(sum(share_of_day * [np.mean(a) - np.mean(b) for a, b in pairs]))
    # what the weights make of the sample: 1 / n where there is one day
    sizes = [
        float((share_of_day**2 / [len(pair[side]) for pair in pairs]).sum()) for side in (0, 1)
    ]
    row["difference_low"], row["difference_high"] = around(
        d,
        (tested, base),
        [interval(side, share, effects.difference) for side in (tested, base)],
        sizes,
    )
    own = variances((tested, base), share)
    if own is None or effects.difference is None:
        return row
    apart = own[0] * sizes[0] + own[1] * sizes[1]
    within = [np.var([*a, *b], ddof=1) for a, b in pairs]
    same_day = float((share_of_day**2 * within / weight).sum())
    if (tests_by := effects.difference * (same_day if share else apart)) > 0:
        row["z"] = d / math.sqrt(tests_by)
        row["p_value"] = float(2 * stats.norm.sf(abs(row["z"])))
    together = variances(([*tested, *base],), share)
    assert together is not None
    variance = effects.difference * max(apart, same_day, together[0] / weight.sum())
    tau_squared = 0.01 if share else 0.04 * together[0]
    careful = d
    if share:
        shrunk = [(sum(x) + 0.5) / (len(x) + 1) - np.mean(x) for x in (tested, base)]
        careful += float(shrunk[0] - shrunk[1])
    if variance > 0:
        row["always_valid_p_value"] = mixture_p(careful, variance, tau_squared)
        reach = mixture_reach(variance, tau_squared, alpha)
        row["always_valid_low"], row["always_valid_high"] = careful - reach, careful + reach
    return row


def around(d: float, sides: Any, intervals: Any, sizes: list[float]) -> Any:
    """Newcombe's interval, each side's part as much wider as the weights make of its sample."""
    if None in (*intervals[0], *intervals[1]):
        return None, None
    wider = [math.sqrt(size * len(side)) for size, side in zip(sizes, sides, strict=True)]
    (a, b), ((low, high), (base_low, base_high)) = map(np.mean, sides), intervals
    return (
        d - math.hypot((a - low) * wider[0], (base_high - b) * wider[1]),
        d + math.hypot((high - a) * wider[0], (b - base_low) * wider[1]),
    )


def variances(samples: Iterable[list[float]], share: bool) -> list[float] | None:
    """Of shares that are never 0 or 1; else those of the samples, None below two rewards."""
    if share:
        shares = [(sum(sample) + 0.5) / (len(sample) + 1) for sample in samples]
        return [p * (1 - p) for p in shares]
    if any(len(sample) < 2 for sample in samples):
        return None
    return [float(np.var(sample, ddof=1)) for sample in samples]


def mixture_p(d: float, variance: float, tau_squared: float) -> float:
    """The ratio of the densities of d under N(0, V) and under N(0, V + tau^2)."""
    mixed = stats.norm.logpdf(d, scale=math.sqrt(variance + tau_squared))
    p = np.exp(min(stats.norm.logpdf(d, scale=math.sqrt(variance)) - mixed, 0))
    return max(float(p), math.exp(-700))


def mixture_reach(variance: float, tau_squared: float, alpha: float) -> float:
    """The difference whose mixture_p is alpha, by bisection."""
    low, high = 0.0, math.sqrt(variance)
    while mixture_p(high, variance, tau_squared) > alpha:
        high *= 2
    return float(optimize.brentq(
        lambda d: math.log(mixture_p(d, variance, tau_squared) / alpha), low, high, xtol=1e-300
    ))  # fmt: skip


def same(actual: Row, wanted: Row) -> None:
    """Assert that the row has the wanted columns, within the tolerances named above."""
    for name, want in wanted.items():
        have = actual[name]
        if isinstance(want, float) and isinstance(have, float):
            if name.endswith("p_value"):
                tolerance = pytest.approx(want, rel=EXPONENT, abs=VANISHING)
            elif "stderr" in name or name.endswith(("_low", "_high")):
                tolerance = pytest.approx(want, rel=ROUNDING, abs=RESIDUAL)
            else:
                tolerance = pytest.approx(want, rel=ROUNDING, abs=ROUNDING)
            assert have == tolerance, name
        else:
            assert have == want, (name, have, want)
