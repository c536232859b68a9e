"""Kafka into the database: each message is stored once.

The offset of a partition is committed with the rows (`control.consumed`), never in Kafka, so a
crash repeats nothing and loses nothing. Several consumers share the partitions; one that a
rebalance overtook finds its messages stored already and starts again from the stored offset.
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
from headrace.events.kafka.brokers import admin_client
from headrace.events.kafka.connection import client_options
from headrace.events.kafka.consumer import TopicReader
from headrace.events.kafka.group import group_id, member_id
from headrace.events.kafka.topics import make_topics
from headrace.events.log import BACKOFF_S, EXPIRE_EVERY_S
from headrace.events.tables import TableWriter
from headrace.settings import PREFIX, Settings

logger = logging.getLogger(__name__)

# How often positions are stored that no row says.
NOTE_EVERY_S = 1.0

Report = Callable[[int], None]


def check(settings: Settings) -> None:
    """Check the settings before anything is started.

    Raises:
        SettingError: no brokers are set, or the engine reads the topics by itself.
    """
    if DIALECTS[settings.engine].reads_topics:
        raise SettingError(
            f"{PREFIX}ENGINE={settings.engine} reads Kafka's topics by itself: "
            "there is nothing to ingest or to replay"
        )
    client_options(settings)


def ingest(
    engine: Engine, stopping: threading.Event, report: Report = lambda _: None, **options: Any
) -> None:
    """Store what the topics have and get until `stopping` is set.

    `report` is called with the number of rows of each batch; `options` go to
    kafka-python's consumer.

    Raises:
        BrokerError: the brokers cannot be reached at the start.
    """
    with admin_client(engine.settings) as admin:
        make_topics(admin, engine.settings)
    options = {"group_id": group_id(engine), **options}
    pause, longest = BACKOFF_S
    note_at = expire_at = time.monotonic()
    with ExitStack() as stack:
        if "group_instance_id" not in options:
            options["group_instance_id"] = stack.enter_context(member_id(engine.settings))
        reader = stack.enter_context(closing(TopicReader(engine, **options)))
        writer = stack.enter_context(closing(TableWriter(engine)))
        while not stopping.is_set():
            try:
                if rows := reader.read():
                    writer.write(rows)
                    report(len(rows))
                if time.monotonic() > note_at:
                    note_at = time.monotonic() + NOTE_EVERY_S
                    writer.note_offsets(reader.offsets())
                if time.monotonic() > expire_at:
                    expire_at = time.monotonic() + EXPIRE_EVERY_S
                    writer.expire()
                pause = BACKOFF_S[0]
            except (psycopg.Error, EngineError) as error:
                logger.warning("not stored, reading it again in %.2f s: %s", pause, one_line(error))
                writer.close()
                reader.rewind()
                stopping.wait(pause)
                pause = min(2 * pause, longest)
