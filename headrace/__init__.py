"""Headrace: the stream from predictions and feedback back to a better model."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.client import Client

__version__ = "0.1.0"
__all__ = ["Client", "__version__"]


def __getattr__(name: str) -> object:
    if name == "Client":
        from headrace.client import Client

        return Client
    raise AttributeError(f"module 'headrace' has no attribute {name!r}")
