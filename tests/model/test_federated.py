"""Averaging: messages that come back as they were, and a mean that is that of B A."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import ModelError, SettingError
from headrace.model.federated import averaged, check_address, learned, packed, unpacked


@given(seed=st.integers(0, 10**6), counts=st.lists(st.integers(1, 1000), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_the_mean_of_b_is_the_mean_of_what_is_added_to_the_weights(
    seed: int, counts: list[int]
) -> None:
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(2, 5)).astype(np.float32)
    sites = [{"l.lora_B.weight": rng.normal(size=(4, 2)).astype(np.float32)} for _ in counts]
    mean = averaged(list(zip(sites, counts, strict=True)))["l.lora_B.weight"]
    added = np.average([b["l.lora_B.weight"] @ a for b in sites], axis=0, weights=counts)
    np.testing.assert_allclose(mean @ a, added, rtol=1e-4, atol=1e-5)


def test_a_message_comes_back() -> None:
    matrices = {"l.lora_A.weight": np.ones((1, 3), "f4"), "l.lora_B.weight": np.eye(2, dtype="f4")}
    found, about = unpacked(packed(matrices, {"base": "x"}))
    assert about == {"base": "x"}
    assert {name: one.tolist() for name, one in found.items()} == {
        name: one.tolist() for name, one in matrices.items()
    }
    assert [*learned(found)] == ["l.lora_B.weight"]


@pytest.mark.parametrize("message", [b"", b"\x80\x04K\x01.", b"\x08" + b"\0" * 7 + b"[1, 2  ]"])
def test_what_is_no_message_is_refused(message: bytes) -> None:
    with pytest.raises(ModelError, match="not readable"):
        unpacked(message)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ModelError, match=r"w must be finite"):
        unpacked(packed({"w": np.full((2, 2), value, np.float32)}, {}))


def test_what_cannot_be_averaged_is_refused() -> None:
    one, other = {"w": np.ones((1, 2), "f4")}, {"w": np.ones((2, 2), "f4")}
    with pytest.raises(ModelError, match="no update"):
        averaged([])
    with pytest.raises(ModelError, match="same names and shapes"):
        averaged([(one, 1), (other, 1)])
    with pytest.raises(ModelError, match="at least 1, got 0"):
        averaged([(one, 0)])


@pytest.mark.parametrize("address", ["127.0.0.1:9092", "localhost:1", "[::1]:65535"])
def test_this_machine_needs_no_encryption(address: str) -> None:
    check_address("server", address, is_encrypted=False)


@pytest.mark.parametrize("address", ["0.0.0.0:9092", "example.org:9092", "10.0.0.1:80"])
def test_other_machines_need_it(address: str) -> None:
    check_address("server", address, is_encrypted=True)
    with pytest.raises(SettingError, match="server: must be on this machine"):
        check_address("server", address, is_encrypted=False)


@pytest.mark.parametrize("address", ["", "127.0.0.1", ":9092", "localhost:0", "localhost:x"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(SettingError, match="must be host:port"):
        check_address("server", address, is_encrypted=True)
