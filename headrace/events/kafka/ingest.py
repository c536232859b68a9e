"""Kafka into the database: messages become events, each of them once.

How far a partition was read is committed with the rows (`control.consumed`), never in Kafka, so a
crash at any moment repeats nothing and loses nothing. Several consumers share the partitions; one
that was left behind by a rebalance finds its messages stored already, and lets go.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Any

import psycopg

from headrace.engine import DIALECTS, Engine
from headrace.errors import EngineError, SettingError, one_line
from headrace.events.kafka.brokers import access, make_topics
from headrace.events.kafka.consumer import Reader
from headrace.events.kafka.members import group_of, member
from headrace.events.log import BACKOFF_S, EXPIRE_EVERY_S
from headrace.events.tables import Writer
from headrace.settings import PREFIX, Settings

log = logging.getLogger(__name__)

# How often the brokers' ends are written beside how far we have read.
LAG_EVERY_S = 1.0

Report = Callable[[int], None]


def check(settings: Settings) -> None:
    """Find wrong settings before anything is started.

    Raises:
        SettingError: no brokers are set, or the engine reads the topics by itself.
    """
    if DIALECTS[settings.engine].reads_topics:
        raise SettingError(
            f"{PREFIX}ENGINE={settings.engine} reads Kafka's topics by itself: "
            "there is nothing to ingest or to replay"
        )
    access(settings)


def ingest(
    engine: Engine, stopping: threading.Event, report: Report = lambda _: None, **options: Any
) -> None:
    """Store what the topics bring until `stopping` is set; `report` gets the rows of each batch.

    `options` go to kafka-python's consumer.

    Raises:
        BrokerError: the brokers cannot be reached at the start.
    """
    make_topics(engine.settings)
    options = {"group_id": group_of(engine), **options}
    pause, longest = BACKOFF_S
    look_at = expire_at = time.monotonic()
    with ExitStack() as stack:
        if "group_instance_id" not in options:
            options["group_instance_id"] = stack.enter_context(member(engine.settings))
        reader = stack.enter_context(closing(Reader(engine, **options)))
        writer = stack.enter_context(closing(Writer(engine)))
        while not stopping.is_set():
            try:
                if rows := reader.read():
                    writer.write(rows)
                    report(len(rows))
                if time.monotonic() > look_at:
                    look_at = time.monotonic() + LAG_EVERY_S
                    writer.note_ends(reader.noted())
                if time.monotonic() > expire_at:
                    expire_at = time.monotonic() + EXPIRE_EVERY_S
                    writer.expire()
                pause = BACKOFF_S[0]
            except (psycopg.Error, EngineError) as error:
                log.warning("not stored, reading it again in %.2f s: %s", pause, one_line(error))
                writer.close()
                reader.go_back()
                stopping.wait(pause)
                pause = min(2 * pause, longest)
