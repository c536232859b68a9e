"""The gateway: events in, predictions out, over HTTP."""

from __future__ import annotations

from headrace.gateway.app import create_app
from headrace.gateway.server import serve

__all__ = ["create_app", "serve"]
