"""Which side of an experiment a unit is on: always the same one, by a hash.

A unit is a user, else a session, else the request itself. Each experiment has a hash of its own, so
its units are independent of those of every other one; and while its share rises, units come in and
none leaves.
"""

from __future__ import annotations

import hashlib

from headrace.events.contract import Inference


def unit_of(request: Inference) -> str:
    """Return what the answer to a request is chosen by."""
    return request.user_id or request.session_id or request.request_id


def place(unit: str, *experiment: str) -> float:
    """Return where in [0, 1) a unit is in an experiment: uniform over units."""
    # No name has a NUL in it.
    digest = hashlib.blake2b("\0".join((*experiment, unit)).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)
