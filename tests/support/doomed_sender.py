"""A sender of alerts that kills itself (-9) when a receiver has answered, before it keeps that.

usage: python -m tests.support.doomed_sender DSN HOME URL
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from headrace.alerting.notices import Notices
from headrace.alerting.send import Sender, lines
from headrace.engine import Engine
from headrace.settings import Settings
from tests.support.alerting import webhook


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    dsn, home, url = sys.argv[1:]
    Notices.told = die  # type: ignore[method-assign, assignment]
    engine = Engine(dsn, Settings(home=Path(home), dsn=dsn))
    Sender(engine, lines({"ours": webhook(url, severities=("critical",))}, "127.0.0.1")).run(
        threading.Event()
    )
