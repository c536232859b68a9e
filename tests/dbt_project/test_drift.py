"""Drift and data quality equal a naive recompute, and tell what they are there to tell."""

from __future__ import annotations

import random
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.engine import Engine
from headrace.events.contract import Event, Inference, Topic, parse
from headrace.events.log import EventLog
from tests.support.champions import promote, trained, training_hours
from tests.support.closeness import close
from tests.support.drift_oracle import Champion, Policies
from tests.support.oracle import Oracle
from tests.support.policies import stretched
from tests.support.quality_oracle import QualityOracle
from tests.support.stored import empty
from tests.support.streams import EXAMPLES, MODELS, START, Stream, first_of_each, send, streams

# The same formula in doubles, summed in another order.
ROUNDING = 1e-9
# Scores are squared in millionths: each is off by half of one, and the errors of the up to 100
# labels of a stream add up in the statistic.
MICRO = 1e-4
# chi_square_p_value: its roots are only nearly normal, worst at half a degree.
CHI_SQUARE = 0.07
# A score counts as the middle of its bin: on both sides half the width of the widest, 0.0104.
SCORE_BIN = 0.0105
FEW = settings(EXAMPLES, max_examples=15)

TOLERANCES = {
    "chi_square_p_value": CHI_SQUARE,
    "score_chi_square_p_value": CHI_SQUARE,
    "p_value": CHI_SQUARE,
    "wasserstein": SCORE_BIN,
    "statistic": MICRO,
    "mean_error": MICRO,
    "last_error": MICRO,
}
KEYS = {
    "feature_psi": ("model", "feature"),
    "prediction_drift": ("model", "model_version"),
    "label_drift": ("model",),
    "recent_performance": ("model",),
    "concept_drift": ("model",),
    "data_quality": ("model", "check_name", "subject"),
}


def govern(engine: Engine, policies: Policies) -> None:
    """Set the policies for all models."""
    with engine.connect() as connection:
        for name, value in asdict(policies).items():
            seconds = isinstance(value, timedelta)
            text = f"{value.total_seconds()} seconds" if seconds else f"{value}"
            connection.execute(
                "insert into control.policies (model, policy, value) values ('*', %s, %s) "
                "on conflict (model, policy) do update set value = excluded.value",
                [name, text],
            )


_champions = st.dictionaries(
    st.sampled_from(MODELS), st.tuples(st.sampled_from(["v1", "v2", "v9"]), training_hours)
)


@FEW
@given(
    stream=streams(),
    factor=st.sampled_from([1, 10]),
    drawn=_champions,
    drift_window=st.sampled_from([timedelta(hours=1), timedelta(hours=9), timedelta(days=3)]),
    min_sample=st.sampled_from([1, 2, 4]),
    default_label=st.sampled_from(["", "", "no"]),
    label_window=st.sampled_from([timedelta(minutes=m) for m in (0, 50, 180, 4_320)]),
)
def test_views_equal_recompute(
    engine: Engine,
    log: EventLog,
    stream: Stream,
    factor: int,
    drawn: dict[str, Any],
    drift_window: timedelta,
    min_sample: int,
    default_label: str,
    label_window: timedelta,
) -> None:
    empty(engine)
    policies = Policies(
        drift_window=drift_window,
        min_sample=min_sample,
        default_label=default_label,
        label_window=label_window,
    )
    silence = policies.silence(*MODELS)
    govern(engine, policies)
    champions = {
        model: trained(version, hours, factor) for model, (version, hours) in drawn.items()
    }
    promote(log, champions)
    stream = without_texts(stretched(stream, factor))
    for number, batch in enumerate(stream.batches):
        send(log, batch)
        oracle = Oracle(*first_of_each(Stream(stream.batches[: number + 1])), silence=silence)
        check(engine, QualityOracle(oracle, policies, champions))


@pytest.mark.parametrize("seed", range(8))
def test_views_of_many_events_equal_recompute(engine: Engine, log: EventLog, seed: int) -> None:
    empty(engine)
    rng = random.Random(seed)
    hours, kind = (40, 400)[seed % 2], ("classes", "scores", "measures")[seed % 3]
    policies = Policies(
        min_sample=rng.choice([1, 5, 20]),
        drift_window=timedelta(hours=rng.choice([4, 10, 60])),
        metric_window=timedelta(hours=rng.choice([2.5, 24, 72])),
        volume_gap=timedelta(minutes=rng.choice([10, 300])),
        page_hinkley_threshold=rng.choice([0.1371, 0.5371, 1.1371]),
        default_label=["", "no"][seed // 4],
        label_window=timedelta(hours=rng.choice([0, 3])),
    )
    govern(engine, policies)
    champions = {}
    if seed % 4 < 3:
        train = START + timedelta(hours=1), START + timedelta(hours=hours / 3, minutes=7)
        # a version without predictions, while others have some, is not followed
        name = "v9" if seed == 5 else "v1"
        champions["m"] = Champion(name, train if seed % 4 else None)
    promote(log, champions)
    events = crowd(rng, hours, kind)
    for share in (0.4, 0.8, 1.0):
        sent = events[: int(share * len(events))]
        send(log, sent)
        oracle = Oracle(*first_of_each(Stream([sent])), silence=policies.silence("m"))
        check(engine, QualityOracle(oracle, policies, champions))


def without_texts(stream: Stream) -> Stream:
    """The stream without what text_drift compares: drift_summary sums that up, too."""
    return Stream(
        [
            [
                (
                    topic,
                    msgspec.structs.replace(
                        event,
                        input=None,
                        output=None,
                        features={
                            name: value for name, value in event.features.items() if name != "note"
                        },
                    )
                    if isinstance(event, Inference)
                    else event,
                )
                for topic, event in batch
            ]
            for batch in stream.batches
        ]
    )


def crowd(rng: random.Random, hours: int, kind: str) -> list[tuple[Topic, Event]]:
    """A thousand predictions of one kind and feedback on them; the last third differs."""
    events: list[tuple[float, Topic, dict[str, Any]]] = []
    for number in range(1000):
        at = rng.random() * hours
        late = at > hours * 2 / 3
        features: dict[str, Any] = {
            "x": rng.choice([*[rng.gauss(3 * late, 1)] * 3, 0, None, "n/a", *["n/a"] * 3 * late]),
            "word": rng.choice("abc" if late else "ab"),
            "id": f"u{rng.randrange(10**6)}",
            "come" if late else "gone": rng.random() < 0.5,
        }
        if rng.random() < 0.2 + 0.3 * late:
            del features["word"]
        score = rng.random() ** (3 if late else 1)
        wrong = rng.random() < (0.6 if late else 0.1)
        told: dict[str, Any] = {"score": score, "prediction": "yes" if score > 0.5 else "no"}
        label: Any = "yes" if (score > 0.5) != wrong else "no"
        if kind == "scores":
            told["prediction"] = None
        if kind == "measures":
            told = {"prediction": rng.choice([round(score * 1000, 2), 7])}
            label = round(score * 1000 + 50 * rng.random() * (1 + 3 * wrong), 2)
        events.append(
            (
                at,
                "inference",
                {
                    "model": "m",
                    "model_version": rng.choice(["v1", "v1", "v1", "v2"]),
                    "variant": rng.choice(["champion", "champion", "canary", "shadow"]),
                    "request_id": f"r{number}",
                    "event_time": (START + timedelta(hours=at)).isoformat(),
                    "features": features,
                    "error": "timeout" if rng.random() < 0.02 + 0.2 * late else None,
                    **told,
                },
            )
        )
        for again in range(rng.choice([0, 1, 1, 1, 2])):
            known = min(at + rng.expovariate(1 / (1 + hours * rng.choice([0, 0, 0.1]))), hours)
            payload = {
                "request_id": f"r{number}",
                "feedback_id": f"f{number} {again}",
                "event_time": (START + timedelta(hours=known)).isoformat(),
                "label": "no" if again and kind != "measures" else label,
            }
            events.append((known + rng.gauss(0, 1), "feedback", payload))
    events.sort(key=lambda event: event[0])
    return [(topic, parse(topic, payload)) for _, topic, payload in events]


def check(engine: Engine, oracle: QualityOracle) -> None:
    for view, keys in KEYS.items():
        rows = engine.rows(f"select * from headrace.{view}")
        actual = {tuple(row[key] for key in keys): row for row in rows}
        assert len(actual) == len(rows)
        expected = {
            key if isinstance(key, tuple) else (key,): row
            for key, row in getattr(oracle, view)().items()
        }
        assert actual.keys() == expected.keys(), view
        for key, wanted in expected.items():
            for name, value in wanted.items():
                found = actual[key][name]
                if isinstance(value, float) or isinstance(found, float):
                    tolerance = TOLERANCES.get(name, ROUNDING)
                    agrees = close(found, value, rel=1e-6, abs=tolerance)
                else:
                    agrees = found == value
                assert agrees, (view, key, name, found, value, wanted)
    check_summary(engine)


def check_summary(engine: Engine) -> None:
    """The summary says what the four views say."""

    def models(view: str, *statuses: str) -> set[str]:
        rows = engine.rows(f"select model, status from headrace.{view}")
        return {row["model"] for row in rows if row["status"] in statuses}

    drifted = {
        "covariate_drift": models("feature_drift", "drifted"),
        "label_drift": models("label_drift", "drifted"),
        "concept_drift": models("concept_drift", "drifted"),
        "output_drift": models("prediction_drift", "drifted", "halt"),
    }
    rows = engine.rows("select * from headrace.drift_summary")
    assert {row["model"] for row in rows} == {
        row["model"] for row in engine.rows("select model from headrace.model_clock")
    }
    for row in rows:
        names = [name for name, found in drifted.items() if row["model"] in found]
        assert [name for name in drifted if row[name]] == names
        kinds = [name.removesuffix("_drift") for name in names if name != "output_drift"]
        assert row["drift"] == ("+".join(kinds) or "none")
        assert row["explanation"]


# What the views are there to tell, on a model with a prediction a minute for 60 hours


def story(changed: str) -> list[tuple[Topic, Event]]:
    """Predictions and labels, of which one side changes after 50 hours, or slowly after 10."""
    rng = random.Random(7)
    events: list[tuple[Topic, dict[str, Any]]] = []
    for number in range(60 * 60):
        time = START + timedelta(minutes=number)
        is_new = number >= 50 * 60
        far = is_new and changed == "inputs"
        x = rng.gauss(3.0 if far else 0.0, 1)
        score = min(max(0.5 + 0.2 * (x - (3 if far else 0)), 0.01), 0.99)
        noise = 0.95 if is_new and changed == "concept" else 0.1
        if changed == "slowly":
            noise += max(number / 60 - 10, 0) * 0.006
        truth = (score > 0.5) != (rng.random() < noise)
        if is_new and changed == "labels":
            truth = truth or rng.random() < 0.9
        if is_new and changed == "output":
            score = score**4
        events.append(
            ("inference", inference(number, time, x, score, "yes" if score > 0.5 else "no"))
        )
        said = {"request_id": f"r{number}", "event_time": (time + timedelta(minutes=5)).isoformat()}
        label = "yes" if truth else "no"
        events.append(("feedback", {**said, "feedback_id": f"f{number}", "label": label}))
    return [(topic, parse(topic, payload)) for topic, payload in events]


def inference(
    number: int, time: datetime, x: float, score: float, prediction: str
) -> dict[str, Any]:
    return {
        "model": "m",
        "model_version": "v1",
        "request_id": f"r{number}",
        "event_time": time.isoformat(),
        "features": {"x": x, "kind": "ab"[number % 2]},
        "score": score,
        "prediction": prediction,
    }


STORY = Policies(
    min_sample=50,
    drift_window=timedelta(hours=6),
    metric_window=timedelta(hours=6),
    page_hinkley_delta=0.02,
    page_hinkley_threshold=0.5,
)


@pytest.mark.parametrize(
    ("changed", "kind", "pace", "output"),
    [
        ("nothing", "none", "none", False),
        ("inputs", "covariate", "none", False),
        ("labels", "label+concept", "sudden", False),
        ("concept", "concept", "sudden", False),
        ("slowly", "concept", "gradual", False),
        ("output", "concept", "sudden", True),
    ],
)
def test_kinds_of_drift_are_told_apart(
    engine: Engine, log: EventLog, changed: str, kind: str, pace: str, output: bool
) -> None:
    govern(engine, STORY)
    events = story(changed)
    send(log, events)
    oracle = Oracle(*first_of_each(Stream([events])))
    check(engine, QualityOracle(oracle, STORY, {}))
    (summary,) = engine.rows("select * from headrace.drift_summary")
    assert (summary["drift"], summary["output_drift"]) == (kind, output), summary["explanation"]
    (concept,) = engine.rows("select * from headrace.concept_drift")
    assert concept["onset"] == pace
    if concept["status"] == "drifted":
        began = START + timedelta(hours=10 if changed == "slowly" else 50)
        most = timedelta(hours=40 if changed == "slowly" else 8)
        assert timedelta(0) <= concept["drifted_since"] - began <= most
