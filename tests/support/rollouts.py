"""Users of a model whose versions are right as often as a test says, and a clock for its life."""

from __future__ import annotations

import random
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta

from headrace.control.conductor import Conductor, Step, due_steps
from headrace.engine import Engine
from headrace.events.contract import parse
from headrace.events.log import EventLog
from tests.support.policies import set_policies

START = datetime(2024, 6, 1, tzinfo=UTC)


class World:
    """Versions of the model `m`: `right`, `fails` and `slow` are shares of answers, by version.

    Attributes:
        served: answers by version and variant, without those of the shadow.
    """

    def __init__(
        self,
        engine: Engine,
        right: dict[str, float],
        **policies: str,
    ) -> None:
        self.engine, self.right = engine, right
        self.fails: dict[str, float] = {}
        self.slow: dict[str, float] = {}
        self.clock, self.served = START, Counter[tuple[str, str]]()
        self._random, self._asked = random.Random(7), 0
        set_policies(engine, "m", learn="on", **policies)

    def tell(self, model_version: str, event: str, **fields: object) -> None:
        """Send a model event at the time of the clock."""
        self.clock += timedelta(seconds=1)
        told = {"model": "m", "model_version": model_version, "event": event, **fields}
        self._send("model_events", [{**told, "event_time": self.clock.isoformat()}])

    def publish(self, model_version: str, event: str = "trained", **fields: object) -> None:
        """Publish a version as a candidate, or as what `event` says."""
        uri = f"file:///versions/{model_version}"
        self.tell(model_version, event, artifact_uri=uri, **fields)

    def answer(self, requests: int, minutes: int = 10) -> None:
        """Let users ask within some minutes: the plan's versions answer, and labels follow."""
        plan = self.engine.rows("select * from headrace.serving_plan where model = 'm'")
        asked, labels = [], []
        for _ in range(requests):
            self._asked += 1
            at = self.clock + timedelta(minutes=minutes * self._random.random())
            name, draw = f"r{self._asked}", self._random.random()
            truth = self._random.choice(["no", "yes"])
            for row in plan:
                version, variant = row["model_version"], row["variant"]
                if variant != "shadow" and not 0 <= draw < row["traffic"]:
                    draw -= row["traffic"]
                    continue
                is_right = self._random.random() < self.right[version]
                answer = truth if is_right else {"no": "yes", "yes": "no"}[truth]
                one = {"model": "m", "model_version": version, "variant": variant,
                       "request_id": name, "prediction": answer, "user_id": f"u{self._asked % 997}",
                       "event_time": at.isoformat(), "latency_ms": 20.0}  # fmt: skip
                if self._random.random() < self.slow.get(version, 0):
                    one["latency_ms"] = 900.0
                if variant == "shadow":
                    one |= {"request_id": f"{name}/{version}", "shadow_of": name}
                else:
                    self.served[version, variant] += 1
                    draw = -1.0
                    if self._random.random() < self.fails.get(version, 0):
                        one["error"] = "it failed"
                asked.append(one)
                if "error" not in one:
                    labels.append({"request_id": one["request_id"], "kind": "label",
                                   "label": truth, "event_time": at.isoformat()})  # fmt: skip
        self._send("inference", asked)
        self._send("feedback", labels)
        self.clock += timedelta(minutes=minutes)

    def live(self, rounds: int, requests: int = 400) -> None:
        """Let users ask and the conductor act, in turn."""
        with Conductor(self.engine) as conductor:
            for _ in range(rounds):
                conductor.take_steps()
                self.answer(requests)
            conductor.take_steps()

    def story(self, model_version: str) -> list[tuple[str, float | None]]:
        """The steps of a version, in order, with their shares."""
        rows = self.engine.rows(
            "select event, traffic from events.model_events where model_version = %s "
            "order by event_time, event_id",
            [model_version],
        )
        return [(row["event"], row["traffic"]) for row in rows]

    def held_back(self, model_version: str) -> str | None:
        """What holds a version back."""
        (row,) = self.engine.rows(
            "select held_back_by from headrace.rollout_trigger where model_version = %s",
            [model_version],
        )
        held: str | None = row["held_back_by"]
        return held

    def champion(self) -> str | None:
        rows = self.engine.rows("select model_version from headrace.champions where model = 'm'")
        return rows[0]["model_version"] if rows else None

    def raced(self, conductors: int) -> list[Step]:
        """The steps that several conductors take which found the same ones due at once."""
        ready = threading.Barrier(conductors)
        taken: list[Step] = []

        def conduct() -> None:
            with Conductor(self.engine) as conductor:
                steps = due_steps(self.engine)
                ready.wait()
                taken.extend(step for step in steps if conductor._take(step))

        threads = [threading.Thread(target=conduct) for _ in range(conductors)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return taken

    def _send(self, topic: str, payloads: list[dict[str, object]]) -> None:
        with EventLog(self.engine) as log:
            log.append(topic, [parse(topic, one) for one in payloads])  # type: ignore[arg-type]
