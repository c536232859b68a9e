"""Answers by the model in this folder without a network, and keeps what was asked and said.

Needs Python 3.11 or later on Linux or macOS, onnxruntime, numpy and tokenizers; Headrace is not
needed. In a program of yours, with this folder in sys.path:

    from answers import Model
    from outbox import Outbox, feedback

    model, outbox = Model(), Outbox()
    answer = model.predict("the parser overflows")
    outbox.add("inferences", model.inference(answer, "the parser overflows"))
    outbox.add("feedback", feedback(answer["request_id"], "bug"))
    outbox.sync("http://127.0.0.1:8321")
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headrace.model.edge.answers import Model
from headrace.model.edge.outbox import OUTBOX, Outbox, SyncError, feedback


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
    parser.add_argument("--outbox", type=Path, default=OUTBOX, metavar="FILE")
    commands = parser.add_subparsers(dest="command", required=True)

    def add(name: str, help: str, example: str) -> argparse.ArgumentParser:
        one = commands.add_parser(
            name, help=help, description=help, epilog=f"example: python run.py {example}"
        )
        one.add_argument("--json", action="store_true", help="print JSON for scripts")
        return one

    asked = add("predict", "Answer a text, and keep the question.", 'predict "it overflows"')
    asked.add_argument("text", help="'' where only features count")
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
