#!/usr/bin/env bash
# kafka-python 3.0.12: a consumer or admin client whose constructor fails leaves a thread behind.
#
# Expected: a constructor that raises because no broker responds releases its resources, so that a client
# may retry until the brokers are up.
# Actual: each KafkaConsumer and KafkaAdminClient that raises KafkaTimeoutError leaves its I/O thread
# running, even after garbage collection: a retry every ten seconds adds 360 threads an hour. A
# KafkaProducer leaves none. So check that a broker responds before creating one.
#
# Seen on 2026-11-29, threads left by three attempts at a port without a listener:
#   KafkaAdminClient  3
#   KafkaConsumer     3
#   KafkaProducer     0
#
# It fails when that changes. Run it with bash; it needs Python 3.11 to 3.13 and PyPI.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check kafka-python==3.0.12

"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import gc
import os
import socket
import threading
import time

from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaTimeoutError

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    nobody = f"127.0.0.1:{free.getsockname()[1]}"

left = {}
for client in (KafkaAdminClient, KafkaConsumer, KafkaProducer):
    before = threading.active_count()
    for _ in range(3):
        try:
            client(bootstrap_servers=nobody, bootstrap_timeout_ms=300)
        except KafkaTimeoutError:
            pass
    gc.collect()
    time.sleep(1)
    left[client.__name__] = threading.active_count() - before
    print(f"{client.__name__:<17} {left[client.__name__]}", flush=True)

same = left == {"KafkaAdminClient": 3, "KafkaConsumer": 3, "KafkaProducer": 0}
if not same:
    print("this has changed since 2026-11-29", flush=True)
os._exit(not same)  # past the threads
PYTHON
