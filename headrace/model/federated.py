"""Federated averaging of LoRA matrices (FedAvg, McMahan et al. 2017): what is sent, and the mean.

A weight is changed by B A. The mean of several B times the mean of several A is not the mean of
the B A; so all sites keep the A of the first one and learn B alone (FFA-LoRA, Sun et al. 2024):
then the mean of B is exactly that of B A. Neither torch nor Flower is imported here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from headrace.errors import ModelError, SettingError, one_line

Matrices = Mapping[str, NDArray[np.float32]]
LEARNED = ".lora_B.weight"  # how the names of the matrices end that sites learn


def packed(matrices: Matrices, about: Mapping[str, str]) -> bytes:
    """Return matrices and what is said of them in one message, in the format of safetensors."""
    return save(dict(matrices), dict(about))


def unpacked(message: bytes) -> tuple[dict[str, NDArray[np.float32]], dict[str, str]]:
    """Return the matrices of a message, and what is said of them.

    Raises:
        ModelError: it is none, or a number in it is not finite.
    """
    try:
        matrices = load(message)
        size = int.from_bytes(message[:8], "little")
        about = json.loads(message[8 : 8 + size]).get("__metadata__", {})
    except (SafetensorError, ValueError) as error:
        raise ModelError(f"federation: a message is not readable: {one_line(error)}") from None
    for name, matrix in matrices.items():
        if not np.isfinite(matrix).all():
            raise ModelError(f"federation: {name} must be finite, got NaN or infinity")
    return matrices, about


def learned(matrices: Matrices) -> dict[str, NDArray[np.float32]]:
    """Return those that a site learns and sends."""
    return {name: matrix for name, matrix in matrices.items() if name.endswith(LEARNED)}


def averaged(updates: Sequence[tuple[Matrices, int]]) -> dict[str, NDArray[np.float32]]:
    """Return the mean of the sites' matrices, each weighed by its number of examples.

    Raises:
        ModelError: there is no update, a number is below 1, or names or shapes differ.
    """
    if not updates:
        raise ModelError("federation: there is no update to average")
    shapes = _shapes(updates[0][0])
    for matrices, examples in updates:
        if examples < 1:
            raise ModelError(f"federation: examples must be at least 1, got {examples}")
        if _shapes(matrices) != shapes:
            raise ModelError("federation: sites must send matrices of the same names and shapes")
    total = sum(examples for _, examples in updates)
    return {
        name: np.asarray(
            sum(matrices[name].astype(float) * (examples / total) for matrices, examples in updates)
        ).astype(np.float32)
        for name in shapes
    }


def fits(matrices: Matrices, wanted: Matrices) -> bool:
    """Whether names and shapes are the same."""
    return _shapes(matrices) == _shapes(wanted)


def check_address(where: str, address: str, is_encrypted: bool) -> None:
    """Refuse an address of another machine without encryption.

    Raises:
        SettingError: it is that, or no `host:port`.
    """
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdecimal() and 0 < int(port) < 65_536):
        raise SettingError(f"{where}: must be host:port, got {address!r}")
    if not is_encrypted and not _is_here(host.strip("[]")):
        raise SettingError(
            f"{where}: must be on this machine, such as 127.0.0.1, or have a certificate, "
            f"got {address!r}"
        )


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _shapes(matrices: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: matrices[name].shape for name in sorted(matrices)}
