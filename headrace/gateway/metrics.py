"""What Prometheus scrapes: events of this gateway, and how far Kafka is ahead of the database."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge
from prometheus_client import generate_latest as expose

from headrace.engine import Engine
from headrace.errors import EngineError
from headrace.events.contract import Topic
from headrace.events.log import Receipt

CONTENT_TYPE = CONTENT_TYPE_LATEST
_LAG = """
select topic, partition, messages_behind, looked_at
from headrace.ingest_lag
where looked_at is not null
"""


class Metrics:
    """The metrics of one gateway. Counts are of events since it started."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._events = Counter(
            "headrace_events", "Events by what became of them", ["topic", "outcome"],
            registry=self._registry,
        )  # fmt: skip
        self._predictions = Counter(
            "headrace_predictions", "Predictions by the HTTP status of their answer", ["status"],
            registry=self._registry,
        )  # fmt: skip
        self._queued = self._gauge("headrace_events_queued", "Events that wait for a commit")
        self._up = self._gauge("headrace_database_up", "Whether the database answers")
        self._behind = self._gauge(
            "headrace_ingest_behind_messages",
            "Messages that the brokers have and the database has not, as headrace.ingest_lag; "
            "absent when they were not asked within 15 seconds",
            "topic", "partition",
        )  # fmt: skip
        self._looked_at = self._gauge(
            "headrace_ingest_looked_at_seconds", "When the brokers were last asked, in Unix time",
            "topic", "partition",
        )  # fmt: skip

    def count(self, topic: Topic, receipt: Receipt, rejected: int) -> None:
        """Count the events of one request; `rejected` broke the contract."""
        for outcome, events in (
            ("accepted", receipt.accepted),
            ("duplicate", receipt.duplicates),
            ("conflict", len(receipt.conflicts)),
            ("rejected", rejected),
        ):
            self._events.labels(topic, outcome).inc(events)

    def count_prediction(self, status: int) -> None:
        """Count one prediction that was asked for."""
        self._predictions.labels(status).inc()

    def exposition(self, engine: Engine, queued: int) -> bytes:
        """Look at the database and return all metrics in Prometheus's text format."""
        self._queued.set(queued)
        self._behind.clear()
        self._looked_at.clear()
        try:
            lags = engine.rows(_LAG)
        except EngineError:
            self._up.set(0)
        else:
            self._up.set(1)
            for lag in lags:
                place = lag["topic"], lag["partition"]
                self._looked_at.labels(*place).set(lag["looked_at"].timestamp())
                if lag["messages_behind"] is not None:
                    self._behind.labels(*place).set(lag["messages_behind"])
        return expose(self._registry)

    def _gauge(self, name: str, says: str, *labels: str) -> Gauge:
        return Gauge(name, says, labels, registry=self._registry)
