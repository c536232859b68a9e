"""Metrics for Prometheus: events and batches of this gateway, the lag behind Kafka, the load."""

from __future__ import annotations

import math
from collections import Counter as Counts
from collections.abc import Sequence
from typing import get_args

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client import generate_latest as expose

from headrace.engine import Engine
from headrace.errors import EngineError
from headrace.events.contract import TOPICS, Topic
from headrace.events.log import Stored
from headrace.events.rows import Receipt, Status
from headrace.gateway.batch import Part
from headrace.gateway.jobs import MAX_BATCH
from headrace.gateway.scaling import loads

CONTENT_TYPE = CONTENT_TYPE_LATEST
# Upper bounds in seconds: fine where an answer should be, and up to the time-out of a request.
_BOUNDS = (
    0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.075, 0.1,
    0.2, 0.5, 1, 2, 5, 10, 30,
)  # fmt: skip
MOST_VERSIONS = 100  # with histograms of their own: online learning makes versions all the time
# Of a batch, of a pass and of a wait, up to what a queue of MAX_WAITING takes.
_ROWS = tuple(2.0**power for power in range(int(math.log2(MAX_BATCH)) + 1))
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_SIGNALS = {"up": 1, "steady": 0, "down": -1}
_LAG = """
select topic, partition, messages_behind, looked_at
from headrace.ingest_lag
where looked_at is not null
"""


class GatewayMetrics:
    """The metrics of one gateway, counted since it started."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        events = Counter(
            "headrace_events", "Events by outcome: accepted, duplicate, conflict or rejected",
            ["topic", "outcome"], registry=self._registry,
        )  # fmt: skip
        times = [
            Histogram(name, says, ["topic"], registry=self._registry, buckets=_BOUNDS)
            for name, says in (
                (
                    "headrace_acknowledge_seconds",
                    "From reading a request with events to its answer, after the commit",
                ),
                (
                    "headrace_log_wait_seconds",
                    "Of it, how long its events waited for their turn to be written",
                ),
                (
                    "headrace_write_seconds",
                    "Of it, how long writing took: copying, updating the views, the commit",
                ),
            )
        ]
        # What has not happened yet is 0, and not absent.
        self._events = {
            (topic, outcome): events.labels(topic, outcome)
            for topic in TOPICS
            for outcome in get_args(Status)
        }
        self._times = {topic: [each.labels(topic) for each in times] for topic in TOPICS}
        self._predictions = Counter(
            "headrace_predictions", "Predictions by the HTTP status of their response", ["status"],
            registry=self._registry,
        )  # fmt: skip
        self._shadows = Counter(
            "headrace_shadow_predictions",
            "What shadows were asked, by outcome: answered, failed or dropped (too much waited)",
            ["outcome"], registry=self._registry,
        )  # fmt: skip
        self._lookups = Counter(
            "headrace_feature_lookups",
            "Predictions with features of the store, by outcome: read or failed (without them)",
            ["outcome"], registry=self._registry,
        )  # fmt: skip
        self._rows = self._histogram("headrace_batch_rows", "Rows of a version in a batch", _ROWS)
        self._seconds = self._histogram(
            "headrace_batch_seconds",
            "How long a batch took that a version had rows in: the forward passes of all of its "
            "versions, and what each of them makes of these",
            _SECONDS,
        )
        self._waits = self._histogram(
            "headrace_queue_seconds", "How long a row waited for its batch to begin", _SECONDS
        )
        self._measured: dict[tuple[str, str], None] = {}  # the one asked last is the last one
        self._queued = self._gauge("headrace_events_queued", "Events that wait for a commit")
        self._up = self._gauge("headrace_database_up", "Whether the database answers")
        self._behind = self._gauge(
            "headrace_ingest_behind_messages",
            "Messages that the brokers have and the database has not, as in headrace.ingest_lag; "
            "absent when the brokers were not asked within 15 seconds",
            "topic", "partition",
        )  # fmt: skip
        self._load = {
            "requests_per_second": self._gauge(
                "headrace_requests_per_second", "Requests of a model over the last minute", "model"
            ),
            "forecast_requests_per_second": self._gauge(
                "headrace_forecast_requests_per_second", "The same 10 minutes ahead", "model"
            ),
            "concurrency": self._gauge(
                "headrace_concurrency", "Requests of a model in progress at a time; absent where "
                "no latency is known", "model",
            ),
        }  # fmt: skip
        self._wanted = self._gauge(
            "headrace_scaling_signal", "Whether a model needs more capacity: 1, 0 or -1 (less)",
            "model",
        )  # fmt: skip
        self._looked_at = self._gauge(
            "headrace_ingest_looked_at_seconds", "When the brokers were last asked, in Unix time",
            "topic", "partition",
        )  # fmt: skip

    def count(self, topic: Topic, receipts: Sequence[Receipt]) -> None:
        """Count the events of one request."""
        for outcome, count in Counts(receipt.status for receipt in receipts).items():
            self._events[topic, outcome].inc(count)

    def time(self, topic: Topic, seconds: float, stored: Stored) -> None:
        """Count the seconds that one request took, and their parts."""
        parts = seconds, stored.waited_s, stored.written_s
        for histogram, took in zip(self._times[topic], parts, strict=True):
            histogram.observe(took)

    def count_prediction(self, status: int) -> None:
        """Count one requested prediction."""
        self._predictions.labels(status).inc()

    def count_shadow(self, outcome: str) -> None:
        """Count what a shadow was asked."""
        self._shadows.labels(outcome).inc()

    def measure(self, parts: Sequence[Part], began: float, took_s: float) -> None:
        """Note a batch, as `Serving` tells of it. The thread of the batches calls this."""
        for part in parts:
            version = part.version.row.model, part.version.row.model_version
            self._make_room(version)
            self._rows.labels(*version).observe(len(part.jobs))
            self._seconds.labels(*version).observe(took_s)
            waits = self._waits.labels(*version)
            for job, given in part.jobs:
                waits.observe(began - job.queued_at)
                if given.failed is not None:
                    self._lookups.labels("failed" if given.failed else "read").inc()

    def exposition(self, engine: Engine, queued: int) -> bytes:
        """Query the database and return all metrics in Prometheus's text format."""
        self._queued.set(queued)
        for gauge in (self._behind, self._looked_at, self._wanted, *self._load.values()):
            gauge.clear()
        try:
            lags, models = engine.rows(_LAG), loads(engine)
        except EngineError:
            self._up.set(0)
        else:
            self._up.set(1)
            for lag in lags:
                partition = lag["topic"], lag["partition"]
                self._looked_at.labels(*partition).set(lag["looked_at"].timestamp())
                if lag["messages_behind"] is not None:
                    self._behind.labels(*partition).set(lag["messages_behind"])
            for model, load in models.items():
                self._wanted.labels(model).set(_SIGNALS[load["signal"]])
                for name, gauge in self._load.items():
                    if load[name] is not None:
                        gauge.labels(model).set(load[name])
        return expose(self._registry)

    def _make_room(self, version: tuple[str, str]) -> None:
        """Forget the version that was asked longest ago, where this one would be too many."""
        self._measured.pop(version, None)
        self._measured[version] = None
        if len(self._measured) > MOST_VERSIONS:
            oldest = next(iter(self._measured))
            del self._measured[oldest]
            for histogram in (self._rows, self._seconds, self._waits):
                histogram.remove(*oldest)

    def _histogram(self, name: str, says: str, buckets: Sequence[float]) -> Histogram:
        labels = ["model", "model_version"]
        return Histogram(name, says, labels, registry=self._registry, buckets=buckets)

    def _gauge(self, name: str, says: str, *labels: str) -> Gauge:
        return Gauge(name, says, labels, registry=self._registry)
