"""Keeps events in a file until a gateway has them. Needs Python's own library only.

Each event has an id, and the gateway counts an id once: whatever is interrupted, nothing is lost
and nothing counts twice.
"""

from __future__ import annotations

import fcntl
import json
import os
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

TOPICS = ("inferences", "feedback")
AT_ONCE, MOST_BYTES = 500, 8_000_000  # of events in one request to the gateway
TIMEOUT_S = 60.0
OUTBOX = Path(__file__).resolve().with_name("outbox.jsonl")


class Outbox:
    """Events in a file that only grows until all are sent. Processes may share it."""

    def __init__(self, path: Path = OUTBOX) -> None:
        self.path = path
        self._sent = path.with_name(f"{path.name}.sent")  # how many bytes of it
        self.rejected = path.with_name(f"{path.name}.rejected")

    def add(self, topic: str, event: Mapping[str, Any]) -> None:
        """Keep an event; it is on disk when this returns."""
        if topic not in TOPICS:
            raise ValueError(f"topic: must be one of {', '.join(TOPICS)}, got {topic!r}")
        line = json.dumps({"topic": topic, "event": event}).encode() + b"\n"
        with _locked(self.path) as file:
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(end - 1)
                if file.read(1) != b"\n":  # a line that was cut off when the power failed
                    line = b"\n" + line
            file.write(line)

    def waiting(self) -> int:
        """How many events have not been sent."""
        return sum(1 for _ in self._lines(self._start()))

    def sync(self, url: str) -> dict[str, int]:
        """Send what waits; return how many events the gateway accepted, knew and rejected.

        What it rejects, because it breaks the contract, is kept in the file `rejected`.

        Raises:
            SyncError: the gateway is away or refuses; what was not sent still waits.
        """
        done = Counter({"accepted": 0, "duplicates": 0, "rejected": 0})
        with _locked(self.path.with_name(f"{self.path.name}.sync"), wait=False):
            while batch := self._batch():
                for topic in TOPICS:
                    events = [event for other, event, _ in batch if other == topic]
                    if events:
                        done.update(self._send(url, topic, events))
                self._write_sent(batch[-1][2])
            with _locked(self.path) as file:
                if self._start() and self._start() == file.seek(0, os.SEEK_END):
                    self._write_sent(0)  # first: killed in between, all is sent again
                    file.truncate(0)
        return dict(done)

    def _batch(self) -> list[tuple[str, dict[str, Any], int]]:
        """The first events that wait: topic, event, and where in the file the next one begins."""
        found, start = [], self._start()
        for line, end in self._lines(start):
            try:
                kept = json.loads(line)
                found.append((kept["topic"], kept["event"], end))
            except (ValueError, KeyError, TypeError):
                found.append(("", {}, end))  # cut off
            if len(found) == AT_ONCE or end - start > MOST_BYTES:
                break
        return found

    def _lines(self, start: int) -> Iterator[tuple[bytes, int]]:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(start)
            while (line := file.readline()).endswith(b"\n"):
                yield line, file.tell()

    def _start(self) -> int:
        try:
            return int(self._sent.read_text())
        except FileNotFoundError:
            return 0

    def _write_sent(self, count: int) -> None:
        draft = self._sent.with_name(f"{self._sent.name}.draft")
        with draft.open("w") as file:
            file.write(str(count))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._sent)

    def _send(self, url: str, topic: str, events: Sequence[Mapping[str, Any]]) -> dict[str, int]:
        request = urllib.request.Request(
            f"{url.rstrip('/')}/v1/{topic}",
            json.dumps(events).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
                said = json.load(response)
        except urllib.error.HTTPError as error:
            body = error.read().decode(errors="replace")
            said = _json(body)
            if error.code != 422 or "rejected" not in said:
                why = said.get("error", {}).get("message") or body[:200]
                raise SyncError(f"{url} answered {error.code}: {why}") from None
        except (OSError, ValueError) as error:
            raise SyncError(f"{url} cannot be reached: {error}") from None
        for one in said["rejected"]:
            kept = {"topic": topic, "event": events[one["index"]], "why": one["message"]}
            with _locked(self.rejected) as file:
                file.write(json.dumps(kept).encode() + b"\n")
        counts = {"accepted": said["accepted"], "rejected": len(said["rejected"])}
        return {**counts, "duplicates": said["duplicates"] + said["conflicts"]}


class SyncError(Exception):
    """Not all was sent."""


def feedback(request_id: str, label: str, user_id: str | None = None) -> dict[str, Any]:
    """The event that says what the right answer to a request is."""
    said = {"feedback_id": uuid.uuid4().hex, "request_id": request_id, "label": label}
    return {**said, "event_time": now(), **({"user_id": user_id} if user_id else {})}


def now() -> str:
    return datetime.now(UTC).isoformat()


def _json(text: str) -> dict[str, Any]:
    try:
        said = json.loads(text)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


@contextmanager
def _locked(path: Path, wait: bool = True) -> Iterator[IO[bytes]]:
    """Open a file that no other process has locked; what is written is on disk at the end."""
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SyncError("another sync is under way") from None
        yield file
        file.flush()
        os.fsync(file.fileno())
