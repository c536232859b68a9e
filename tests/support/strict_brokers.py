"""Brokers that refuse what Apache Kafka refuses, and the messages that they hold.

Tansu accepts everything. `StrictBroker` is a proxy in front of it that responds like Kafka to a
batch that is too large for its topic, a record more than an hour ahead, and a record that a plug-in
of the broker finds invalid. `RealBroker` is the one that HEADRACE_TEST_KAFKA names.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, KafkaAdminClient
from kafka.protocol.admin import DescribeConfigsRequest, DescribeConfigsResponse
from kafka.protocol.producer import ProduceRequest, ProduceResponse
from kafka.record.memory_records import MemoryRecords

from benchmarks.broker import Broker
from headrace.machine import free_port

LIMIT = 1_048_588
INVALID = b"no plug-in takes this"
NOT_AUTHORIZED, TOO_LARGE, INVALID_TIMESTAMP, INVALID_RECORD = 29, 10, 32, 87
_AHEAD_MS = 3_600_000
_Answer = ProduceResponse.TopicProduceResponse.PartitionProduceResponse


class RealBroker:
    """A running broker."""

    def __init__(self, address: str) -> None:
        self.address = address

    def limit(self, topic: str, size: int) -> None:
        """Limit the batches of an existing topic to `size` bytes."""
        admin = KafkaAdminClient(bootstrap_servers=self.address)
        config = ConfigResource("TOPIC", topic, {"max.message.bytes": str(size)})
        admin.alter_configs([config])
        asked = ConfigResource("TOPIC", topic)
        while True:
            found = admin.describe_configs([asked], config_filter="all")["topic"][topic]
            if found["max.message.bytes"]["value"] == str(size):
                break
        admin.close()

    def stop(self) -> None:
        """Do nothing."""


class StrictBroker:
    """Tansu behind a proxy that refuses messages."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", free_port()))
        port = self._listener.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        self.refuse_all = 0  # code of an error that every produced batch gets
        self.hidden = False  # whether nobody may read the topics' configuration
        self.lost = 0  # acknowledgements that get lost, with their connection
        self._limits: dict[str, int] = {}
        self._broker = Broker(port)
        self._broker.start()
        threading.Thread(target=self._accept, daemon=True).start()

    def limit(self, topic: str, size: int) -> None:
        """Limit the batches of a topic to `size` bytes."""
        self._limits[topic] = size

    def stop(self) -> None:
        """Stop both; clients lose their connections."""
        self._listener.close()
        self._broker.stop()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._broker.port)) as broker:
            while (request := _frame(client)) is not None:
                key, version = struct.unpack(">hh", request[:4])
                handle = {0: self._produce, 32: self._describe}.get(key, _pass)
                answer = handle(request, version, lambda sent: _exchange(broker, sent))
                if answer is None:
                    return
                with contextlib.suppress(OSError):  # a client that is gone meanwhile
                    client.sendall(struct.pack(">i", len(answer)) + answer)

    def _produce(
        self, frame: bytes, version: int, ask: Callable[[bytes], bytes | None]
    ) -> bytes | None:
        request = ProduceRequest.decode(frame, version=version, header=True)
        refused: dict[str, list[Any]] = {}
        for topic in request.topic_data:
            taken = []
            for partition in topic.partition_data:
                code, errors = self._verdict(topic.name, bytes(partition.records))
                if code:
                    answer = _Answer(
                        index=partition.index, error_code=code, base_offset=-1,
                        log_append_time_ms=-1, log_start_offset=-1, record_errors=errors,
                        error_message="One or more records have been rejected" if errors else None,
                    )  # fmt: skip
                    refused.setdefault(topic.name, []).append(answer)
                else:
                    taken.append(partition)
            topic.partition_data = taken
        request.topic_data = [topic for topic in request.topic_data if topic.partition_data]
        if request.topic_data:
            found = ask(request.encode(version=version, header=True))
            if found is None:
                return None
            if self.lost:
                self.lost -= 1
                return None
            response = ProduceResponse.decode(found, version=version, header=True)
        else:
            response = ProduceResponse(responses=[], throttle_time_ms=0)
        for name, answers in refused.items():
            response.responses.append(
                ProduceResponse.TopicProduceResponse(name=name, partition_responses=answers)
            )
        return _encoded(response, request, version)

    def _verdict(self, topic: str, batches: bytes) -> tuple[int, list[Any]]:
        if self.refuse_all:
            return self.refuse_all, []
        if len(batches) > self._limits.get(topic, LIMIT):
            return TOO_LARGE, []
        (records,) = ([*batch] for batch in MemoryRecords(batches))
        latest = time.time() * 1000 + _AHEAD_MS
        for code, wrong in (
            (INVALID_TIMESTAMP, lambda record: record.timestamp > latest),
            (INVALID_RECORD, lambda record: INVALID in record.value),
        ):
            errors = [
                _Answer.BatchIndexAndErrorMessage(
                    batch_index=index, batch_index_error_message="out of range, or invalid"
                )
                for index, record in enumerate(records)
                if wrong(record)
            ]
            if errors:
                return code, errors
        return 0, []

    def _describe(
        self, frame: bytes, version: int, _: Callable[[bytes], bytes | None]
    ) -> bytes | None:
        request = DescribeConfigsRequest.decode(frame, version=version, header=True)
        result = DescribeConfigsResponse.DescribeConfigsResult
        response = DescribeConfigsResponse(throttle_time_ms=0, results=[])
        for resource in request.resources:
            name = resource.resource_name
            value = result.DescribeConfigsResourceResult(
                name="max.message.bytes", value=str(self._limits.get(name, LIMIT)),
                read_only=False, config_source=5, is_sensitive=False, synonyms=[],
            )  # fmt: skip
            response.results.append(
                result(
                    error_code=NOT_AUTHORIZED if self.hidden else 0, error_message=None,
                    resource_type=2, resource_name=name,
                    configs=[] if self.hidden else [value],
                )
            )  # fmt: skip
        return _encoded(response, request, version)


def messages(address: str, topic: str) -> list[tuple[dict[str, Any], int]]:
    """Return the messages of a topic as (payload, time in ms), in order within a partition."""
    consumer = KafkaConsumer(bootstrap_servers=address, auto_offset_reset="earliest")
    consumer.assign(
        [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
    )
    found = []
    while polled := consumer.poll(timeout_ms=500):
        for records in polled.values():
            found += [(json.loads(record.value), record.timestamp) for record in records]
    consumer.close()
    return found


def _encoded(response: Any, request: Any, version: int) -> bytes:
    response._header = None
    response.API_VERSION = version
    response.with_header(correlation_id=request.header.correlation_id)
    return bytes(response.encode(header=True))


def _pass(frame: bytes, _: int, ask: Callable[[bytes], bytes | None]) -> bytes | None:
    return ask(frame)


def _exchange(broker: socket.socket, frame: bytes) -> bytes | None:
    broker.sendall(struct.pack(">i", len(frame)) + frame)
    return _frame(broker)


def _frame(connection: socket.socket) -> bytes | None:
    head = _exactly(connection, 4)
    return None if head is None else _exactly(connection, *struct.unpack(">i", head))


def _exactly(connection: socket.socket, size: int) -> bytes | None:
    found = bytearray()
    while len(found) < size:
        try:
            some = connection.recv(size - len(found))
        except OSError:
            return None
        if not some:
            return None
        found += some
    return bytes(found)
