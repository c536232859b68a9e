"""Metrics for Prometheus: events of this gateway, the lag behind Kafka, the load of the models."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Sequence
from typing import get_args

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge
from prometheus_client import generate_latest as expose

from headrace.engine import Engine
from headrace.errors import EngineError
from headrace.events.contract import Topic
from headrace.events.rows import Receipt, Status
from headrace.gateway.scaling import loads

CONTENT_TYPE = CONTENT_TYPE_LATEST
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
        self._events = Counter(
            "headrace_events", "Events by outcome: accepted, duplicate, conflict or rejected",
            ["topic", "outcome"], registry=self._registry,
        )  # fmt: skip
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
        counts = Counts(receipt.status for receipt in receipts)
        for outcome in get_args(Status):
            self._events.labels(topic, outcome).inc(counts[outcome])

    def count_prediction(self, status: int) -> None:
        """Count one requested prediction."""
        self._predictions.labels(status).inc()

    def count_shadow(self, outcome: str) -> None:
        """Count what a shadow was asked."""
        self._shadows.labels(outcome).inc()

    def count_lookup(self, outcome: str) -> None:
        """Count a prediction whose features were looked up."""
        self._lookups.labels(outcome).inc()

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

    def _gauge(self, name: str, says: str, *labels: str) -> Gauge:
        return Gauge(name, says, labels, registry=self._registry)
