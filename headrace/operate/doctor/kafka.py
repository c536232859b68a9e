"""Checks of Kafka: the brokers, the topics, and how far these have been read."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any, NamedTuple

from kafka import KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError

from headrace.engine import Engine
from headrace.errors import BrokerError, one_line
from headrace.events.kafka.brokers import admin_client, broker_error
from headrace.events.kafka.connection import client_options
from headrace.events.kafka.end_offsets import EndOffsetsClient
from headrace.events.kafka.topics import topic_names
from headrace.operate.doctor.findings import (
    SKEW,
    Finding,
    Findings,
    clock_skew,
    failed,
    ok,
    run,
    warning,
)
from headrace.settings import PREFIX, Settings

# With more messages behind, ingest is slow; with none stored for this long, it does not run.
MANY_BEHIND, QUIET_S = 100_000, 60.0
# How long to wait for the newest messages.
FETCH_S = 3.0
# The end of the year 9999; a sender that counts in microseconds is beyond it.
LATEST_MS = 253_402_300_799_000


def examine_brokers(settings: Settings, engine: Engine | None) -> Findings:
    """Run the checks of Kafka; without the `engine`, not how far the topics have been read."""
    for finding in run(check_brokers, settings):
        yield finding
        if finding.level == "failed":
            return
    yield from run(check_topics, settings)
    yield from run(check_messages, settings, engine)


def check_brokers(settings: Settings) -> Findings:
    """The brokers can be reached."""
    try:
        with admin_client(settings) as admin:
            yield ok(f"{len(admin.describe_cluster()['brokers'])} at {settings.kafka}")
    except BrokerError as error:
        says, _, do = one_line(error).partition("; ")
        yield failed(says, do or f"start it, or correct {PREFIX}KAFKA and its security")


def check_topics(settings: Settings) -> Findings:
    """The topics exist, with the partitions, replicas and retention of the settings."""
    wanted = list(topic_names(settings))
    with admin_client(settings) as admin:
        there = {each["name"]: each["partitions"] for each in admin.describe_topics(wanted)}
        there = {name: partitions for name, partitions in there.items() if partitions}
        asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in there]
        configured = admin.describe_configs(asked, config_filter="all")["topic"] if asked else {}
    maker = "migrate" if settings.engine == "risingwave" else "ingest"
    findings: list[Finding] = []
    for name in wanted:
        if name in there:
            config = {key: value["value"] for key, value in configured.get(name, {}).items()}
            findings += _topic(name, there[name], config, settings)
        else:
            findings.append(failed(f"{name} is missing", f"headrace {maker} creates it"))
    yield from findings or [ok(f"all {len(wanted)} are as in the settings")]


def _topic(
    name: str, partitions: list[dict[str, Any]], config: dict[str, str], settings: Settings
) -> Findings:
    replicas = min(len(each["replica_nodes"]) for each in partitions)
    if len(partitions) != settings.kafka_partitions:
        yield warning(
            f"{name} has {len(partitions)} partitions, not {settings.kafka_partitions}",
            f"kafka-topics --alter --topic {name} adds some; "
            f"{PREFIX}KAFKA_PARTITIONS applies to new topics only",
        )
    if replicas == 1:
        yield warning(
            f"{name} has one replica: its events are lost with the broker",
            f"{PREFIX}KAFKA_REPLICAS=3 before it is created, or kafka-reassign-partitions",
        )
    elif replicas < settings.kafka_replicas:
        yield warning(
            f"{name} has {replicas} replicas, not {settings.kafka_replicas}",
            "kafka-reassign-partitions",
        )
    elif int(config.get("min.insync.replicas", 2)) < 2:
        yield warning(
            f"{name} acknowledges an event once a single broker has it",
            f"kafka-configs --alter --topic {name} --add-config min.insync.replicas=2",
        )
    behind = [each for each in partitions if len(each["isr_nodes"]) < len(each["replica_nodes"])]
    if behind:
        yield warning(
            f"{name}: replicas of {len(behind)} partitions are not in sync", "check the brokers"
        )
    if "compact" in config.get("cleanup.policy", ""):
        yield failed(
            f"{name} is compacted: the brokers delete all but the last event of each key",
            f"kafka-configs --alter --topic {name} --add-config cleanup.policy=delete",
        )
    kept = int(config.get("retention.ms") or -1)
    if 0 <= kept < 3_600_000 * settings.kafka_retention_h:
        yield warning(
            f"{name} keeps events for {kept / 3_600_000:g} h, not {settings.kafka_retention_h}",
            f"kafka-configs --alter --topic {name} "
            f"--add-config retention.ms={3_600_000 * settings.kafka_retention_h}",
        )


def check_messages(settings: Settings, engine: Engine | None) -> Findings:
    """Messages are read in time, none was deleted unread, and no sender's clock is ahead."""
    names = list(topic_names(settings))
    kept = _kept(settings)
    if engine:
        read = {
            (row["topic"], row["partition"]): row
            for row in engine.rows(
                "select topic, partition, next_offset, topic_id, consumed_at from control.consumed"
            )
        }
        yield from _read(kept, read, names, settings)
        yield from _lost(engine)
    newest = max((each.newest_ms for each in kept.values()), default=0)
    ahead = datetime.fromtimestamp(min(newest, LATEST_MS) / 1000, UTC) - datetime.now(UTC)
    if ahead > SKEW:
        yield clock_skew(ahead, "the clock of the sender of the newest message")


def _read(
    kept: dict[TopicPartition, Kept],
    read: dict[tuple[str, int], dict[str, Any]],
    names: list[str],
    settings: Settings,
) -> Findings:
    behind = dict.fromkeys(names, 0)
    stored_at: datetime | None = None
    for (topic, number), place in kept.items():
        row = read.get((topic, number))
        if row:
            stored_at = max(stored_at or row["consumed_at"], row["consumed_at"])
            if row["topic_id"] not in ("", place.topic_id):
                row = None
                yield warning(
                    f"{topic}:{number} was recreated since it was read",
                    "run headrace ingest, which reads it from the beginning",
                )
        at = row["next_offset"] if row else place.first
        behind[topic] += max(place.end - max(at, place.first), 0)
        if at < place.first:
            yield failed(
                f"{place.first - at} messages of {topic}:{number} were deleted unread",
                f"send them again; raise {PREFIX}KAFKA_RETENTION_H, or keep ingest running",
            )
        elif at > place.end:
            yield failed(
                f"{topic}:{number} was read up to {at} and ends at {place.end}: it was recreated",
                f"use another {PREFIX}KAFKA_PREFIX, or stop ingest and delete its rows of "
                "control.consumed",
            )
    waiting = {topic: count for topic, count in behind.items() if count}
    says = ", ".join(f"{topic} {count:,}" for topic, count in waiting.items()) or "none"
    says = f"messages behind: {says}"
    quiet = stored_at is None or (datetime.now(UTC) - stored_at).total_seconds() > QUIET_S
    if waiting and quiet:
        do = {"postgres": "run headrace ingest", "risingwave": "check RisingWave's sources"}
        yield warning(f"{says}, and none is being stored", do[settings.engine])
    elif sum(waiting.values()) > MANY_BEHIND:
        do = {
            "postgres": "wait, or run more processes of headrace ingest, up to one a partition",
            "risingwave": "wait, or give RisingWave more compute nodes",
        }
        yield warning(says, do[settings.engine])
    else:
        yield ok(says)


def _lost(engine: Engine) -> Findings:
    """Messages that ingest found deleted in the last seven days."""
    for row in engine.rows(
        "select topic, sum(messages)::bigint as messages, max(noticed_at) as at "
        "from headrace.lost_messages where noticed_at > now() - interval '7 days' "
        "group by topic order by topic"
    ):
        yield warning(
            f"{row['messages']:,} messages of {row['topic']} were lost unread, "
            f"noticed at {row['at']:%Y-%m-%d %H:%M}Z",
            "send them again: headrace.lost_messages lists them",
        )


class Kept(NamedTuple):
    """Offsets of a partition at the brokers, and the time of its newest message (0: none)."""

    first: int
    end: int
    newest_ms: int
    topic_id: str = ""


def _kept(settings: Settings) -> dict[TopicPartition, Kept]:
    asked = EndOffsetsClient(settings)
    try:
        found = {each: end for each, end in asked.fetch().items() if end is not None}
    finally:
        asked.close()
    consumer = KafkaConsumer(**client_options(settings), enable_auto_commit=False)
    try:
        end = {each: has.end_offset for each, has in found.items()}
        newest = dict.fromkeys(found, 0)
        filled = [each for each, has in found.items() if has.end_offset > has.first_offset]
        consumer.assign(filled)
        for each in filled:
            consumer.seek(each, end[each] - 1)
        deadline = time.monotonic() + FETCH_S
        while any(not newest[each] for each in filled) and time.monotonic() < deadline:
            for each, records in consumer.poll(timeout_ms=200).items():
                newest[each] = max(record.timestamp for record in records)
                end[each] = max(end[each], records[-1].offset + 1)
        return {
            each: Kept(has.first_offset, end[each], newest[each], has.topic_id)
            for each, has in found.items()
        }
    except KafkaError as error:
        raise broker_error(settings, error) from None
    finally:
        consumer.close()
