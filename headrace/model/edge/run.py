"""Answers by the model in this folder without a network, and keeps what was asked and said.

Needs Python 3.11 or later on Linux or macOS, onnxruntime, numpy and tokenizers; Headrace is not
needed. What is kept waits in outbox.jsonl until `sync` has sent it to a gateway. Each event has an
id, and the gateway counts an id once: whatever is interrupted, nothing is lost and nothing counts
twice.

    from run import Model, Outbox

    model, outbox = Model(), Outbox()
    answer = model.predict("the parser overflows")
    outbox.add("inferences", model.inference(answer, "the parser overflows"))
    outbox.add("feedback", feedback(answer["request_id"], "bug"))
    outbox.sync("http://127.0.0.1:8321")
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import math
import os
import re
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).resolve().parent
BUNDLE, ARRAYS, WORDS = "bundle.json", "arrays.npz", "words.json"
GRAPH, TOKENIZER = "model.onnx", "tokenizer.json"
TOPICS = ("inferences", "feedback")
AT_ONCE, MOST_BYTES = 500, 8_000_000  # of events in one request to the gateway
TIMEOUT_S = 60.0
WORD = re.compile(r"\w\w+")
SURE = 0.99  # the probability of a label that somebody has set


class Model:
    """The version in a folder. It never changes, and any thread may call it."""

    def __init__(self, folder: Path = HERE) -> None:
        import numpy as np
        import onnxruntime
        from tokenizers import Tokenizer

        self.facts: dict[str, Any] = json.loads((folder / BUNDLE).read_text())
        with np.load(folder / ARRAYS) as arrays:
            self._arrays = dict(arrays)
        words = json.loads((folder / WORDS).read_text())
        self._places = {word: place for place, word in enumerate(words)}
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            str(folder / GRAPH), options, providers=["CPUExecutionProvider"]
        )

    def predict(
        self,
        text: str,
        segment: str | None = None,
        features: Mapping[str, str | float | bool | None] | None = None,
    ) -> dict[str, Any]:
        """Answer as `POST /v1/predict` of a gateway does."""
        began = time.perf_counter()
        p = self.probabilities(text, segment, features or {})
        scores: dict[str, float] = {}
        for label, one in zip(self.facts["labels"], p, strict=True):
            scores[label] = min(max(scores.get(label, 0.0) + one, 0.0), 1.0)
        best = max(scores, key=scores.__getitem__)
        positive = self.facts["positive_label"]
        return {
            "request_id": uuid.uuid4().hex,
            "model": self.facts["model"],
            "model_version": self.facts["model_version"],
            "prediction": best,
            "score": scores[best if positive is None else positive],
            "scores": scores,
            "latency_ms": round((time.perf_counter() - began) * 1000, 3),
        }

    def inference(
        self,
        answer: Mapping[str, Any],
        text: str,
        segment: str | None = None,
        features: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The event that says what was asked and answered, at this moment."""
        said = {name: value for name, value in answer.items() if name != "scores"}
        return {
            **said,
            "probabilities": answer["scores"],
            "event_time": now(),
            "input": text,
            "segment": segment,
            "features": dict(features or {}),
        }

    def probabilities(
        self, text: str, segment: str | None, features: Mapping[str, Any]
    ) -> list[float]:
        """Return the probability of each label."""
        import numpy as np

        arrays, facts = self._arrays, self.facts
        if facts["features"] is not None:
            features = {name: one for name, one in features.items() if name in facts["features"]}
        states = (self._states(text) - arrays["states.center"]) / arrays["states.scale"]
        parts = {
            "words": self._words(text, segment, features),
            "states": arrays["states.weight"] @ states + arrays["states.bias"],
        }
        floor = math.log(facts["floor"])
        pooled = sum(
            facts["weights"][name] * np.maximum(_log_softmax(logits), floor)
            for name, logits in parts.items()
        )
        learned = arrays["correction.weight"] @ states + arrays["correction.bias"]
        p = np.exp(_log_softmax(_log_softmax(pooled) + learned))
        if facts["shift"]:
            p = p * np.exp(facts["shift"])
            p = p / p.sum()
        column = facts["corrections"].get(_input_key(text, segment, features))
        if column is not None:
            p = np.full(len(p), (1 - SURE) / max(1, len(p) - 1))
            p[column] = SURE
        return [float(one) for one in p]

    def _states(self, text: str) -> Any:
        import numpy as np

        most = self.facts["tokens"]
        ids = self._tokenizer.encode(text[: self.facts["characters"]]).ids
        ids = ids if len(ids) <= most else [*ids[: most - 1], ids[-1]]
        feeds = {"input_ids": np.array([ids], np.int64)}
        feeds["attention_mask"] = np.ones_like(feeds["input_ids"])
        return self._session.run(["states"], feeds)[0][0]

    def _words(self, text: str, segment: str | None, features: Mapping[str, Any]) -> Any:
        """Logits of the TF-IDF of words, pairs of them, and names with their values."""
        import numpy as np

        words = WORD.findall(text[: self.facts["characters"]].lower())
        named = [f"{name}={value}" for name, value in features.items() if _is_name(value)]
        if segment is not None:
            named.append(f"={segment}")
        terms = [*words, *map(" ".join, pairwise(words)), *named] or [""]
        counts = Counter(self._places[term] for term in terms if term in self._places)
        places = np.array(sorted(counts), int)
        values = np.array([1 + math.log(counts[place]) for place in sorted(counts)])
        values = values * self._arrays["words.idf"][places]
        length = math.sqrt(float((values**2).sum()))
        values = values / length if length else values
        return self._arrays["words.weight"][:, places] @ values + self._arrays["words.bias"]


class Outbox:
    """Events in a file that only grows until all are sent. Processes may share it."""

    def __init__(self, path: Path = HERE / "outbox.jsonl") -> None:
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


def _log_softmax(logits: Any) -> Any:
    import numpy as np

    shifted = np.asarray(logits, np.float64)
    shifted = shifted - shifted.max()
    return shifted - math.log(float(np.exp(shifted).sum()))


def _is_name(value: object) -> bool:
    return isinstance(value, str | bool)


def _input_key(text: str, segment: str | None, features: Mapping[str, Any]) -> str:
    """What corrections of an input are found by."""
    if text.strip():
        said: Any = " ".join(text.split())
    else:
        sent = {name: value for name, value in features.items() if "__" not in name}
        said = [segment, sorted(sent.items())]
    return hashlib.blake2b(json.dumps(said, default=str).encode(), digest_size=16).hexdigest()


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


def _value(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"must have the form NAME=VALUE, got {text!r}")
    try:
        read = json.loads(value)
    except ValueError:
        return name, value
    return name, read if isinstance(read, int | float | bool) else value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Answers offline, keeps questions and feedback, and sends them later.",
        epilog='example: python run.py predict "the parser overflows"',
    )
    parser.add_argument("--outbox", type=Path, default=HERE / "outbox.jsonl", metavar="FILE")
    commands = parser.add_subparsers(dest="command", required=True)

    def add(name: str, help: str, example: str) -> argparse.ArgumentParser:
        one = commands.add_parser(
            name, help=help, description=help, epilog=f"example: python run.py {example}"
        )
        one.add_argument("--json", action="store_true", help="print JSON for scripts")
        return one

    asked = add("predict", "Answer a text, and keep the question.", 'predict "it overflows"')
    asked.add_argument("text")
    asked.add_argument("--segment")
    asked.add_argument("--feature", action="append", default=[], type=_value, metavar="NAME=VALUE")
    said = add("feedback", "Keep what the right answer was.", "feedback 3f2a91 bug")
    said.add_argument("request_id")
    said.add_argument("label")
    sent = add("sync", "Send what was kept.", "sync --url http://127.0.0.1:8321")
    sent.add_argument("--url", required=True, help="address of the gateway")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0, or 1 after an error, which is one line on standard error."""
    given = _parser().parse_args(arguments)
    outbox = Outbox(given.outbox)
    if given.command == "predict":
        model, features = Model(), dict(given.feature)
        result: dict[str, Any] = model.predict(given.text, given.segment, features)
        outbox.add("inferences", model.inference(result, given.text, given.segment, features))
        text = f"{result['prediction']}   {result['score']:.3f}   request {result['request_id']}"
    elif given.command == "feedback":
        result = feedback(given.request_id, given.label)
        outbox.add("feedback", result)
        text = f"kept; {outbox.waiting()} events wait"
    else:
        try:
            result = outbox.sync(given.url)
        except SyncError as error:
            print(f"run.py: {error}; {outbox.waiting()} events wait", file=sys.stderr)
            return 1
        text = ", ".join(f"{count} {name}" for name, count in result.items())
    print(json.dumps(result) if given.json else text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
