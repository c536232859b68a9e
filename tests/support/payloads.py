"""Payloads of events as anybody might send them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from headrace.events.contract import STRUCTS, TOPICS, Topic

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
words = st.sampled_from(
    [
        "champion",
        "label",
        "click",
        "preference",
        "retraction",
        "explicit",
        "promoted",
        "2024-05-01T00:00:00Z",
    ]
)


@st.composite
def payloads(draw: st.DrawFn) -> tuple[Topic, dict[str, Any]]:
    """Payloads that mostly have the right fields, with anything in them."""
    topic = draw(st.sampled_from(TOPICS))
    names = st.sampled_from(STRUCTS[topic].__struct_fields__) | st.text()
    payload = draw(st.dictionaries(names, json_values | words, max_size=8))
    for name in ("model", "model_version", "request_id"):
        if name in STRUCTS[topic].__struct_fields__ and draw(st.booleans()):
            payload[name] = draw(st.text(min_size=1, max_size=20))
    return topic, payload
