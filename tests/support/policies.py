"""What tests of several marts share: policies to set, and streams of months instead of hours."""

from __future__ import annotations

import msgspec
from hypothesis import strategies as st

from headrace.engine import Engine
from tests.support.label_oracle import utc
from tests.support.streams import START, Stream

# Streams span 40 hours: stretched, they fit into an hour, or reach beyond the 30 days that many
# views look back.
STRETCHES = st.sampled_from([0.02, 1.0, 40.0])


def stretched(stream: Stream, factor: float) -> Stream:
    """Return the stream with `factor` times as much time between its events."""
    return Stream(
        [
            [
                (topic, msgspec.structs.replace(event, event_time=START + factor * passed))
                for topic, event in batch
                for passed in [utc(event.event_time) - START]
            ]
            for batch in stream.batches
        ]
    )


def set_policies(engine: Engine, model: str = "*", **policies: str) -> None:
    """Set policies of one model, or of all of them."""
    rows = [{"model": model, "policy": name, "value": text} for name, text in policies.items()]
    if rows:
        with engine.writing() as connection:
            engine.dialect.put(connection, "control.policies", ["model", "policy"], rows)
