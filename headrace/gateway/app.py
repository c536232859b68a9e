"""The HTTP application: the routes, and what each of them answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from headrace import __version__
from headrace.control import policies
from headrace.control.owner import owner_key
from headrace.control.plan import PlanFollower
from headrace.engine import Engine
from headrace.engine.reader_role import ReaderKeeper
from headrace.errors import BusyError, ContractError, EngineError
from headrace.events.contract import IDS, Event, ModelEvent, Topic, parse, unsaid
from headrace.events.log import EventLog
from headrace.gateway.guard import Guard
from headrace.gateway.metrics import CONTENT_TYPE, Metrics
from headrace.gateway.predict import as_http, predict
from headrace.gateway.serving import Serving
from headrace.gateway.wire import HttpError, answer, describe, read_items, read_json
from headrace.model.artifact import check_address
from headrace.settings import Settings

Handler = Callable[[Request], Awaitable[Response]]
ACKNOWLEDGE_TIMEOUT_S = 30.0
# A batch that is under way for so long is said to be stuck.
STUCK_S = 10.0
# Events that are checked before other requests get a turn.
CHECKED_AT_ONCE = 250

ENDPOINTS: dict[str, Any] = {
    "POST /v1/inferences": {
        "does": "stores answers of your models; an object or an array; answered after the commit",
        "example": {
            "model": "churn", "model_version": "7", "request_id": "r-1", "segment": "eu",
            "features": {"age": 31, "plan": "pro"}, "prediction": "stays", "score": 0.2,
        },
    },
    "POST /v1/feedback": {
        "does": "stores what people made of an answer; an object or an array",
        "example": {"request_id": "r-1", "kind": "label", "label": "leaves"},
    },
    "POST /v1/model-events": {
        "does": "stores steps in the life of a version; an object or an array",
        "needs": "Authorization: Bearer, with the owner's key",
        "example": {"model": "churn", "model_version": "7", "event": "promoted"},
    },
    "POST /v1/predict": {
        "does": "asks the version that serves and logs the inference; an object or an array",
        "example": {"model": "churn", "text": "how do I leave?", "features": {"age": 31}},
    },
    "GET /v1/plan": {"does": "says which versions serve, and whether each is loaded"},
    "GET /v1/models/{model}/policies": {"does": "says which thresholds hold for a model"},
    "PUT /v1/models/{model}/policies": {
        "does": "sets thresholds of a model; null goes back to the default",
        "needs": "Authorization: Bearer, with the owner's key",
        "example": {"min_new_labels": 200},
    },
    "GET /metrics": {"does": "tells Prometheus about events, the queue and the lag behind Kafka"},
    "GET /healthz": {"does": "says whether the database is there and events get through"},
}  # fmt: skip


class Gateway:
    """The handlers, and what they share while the application runs."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine = engine
        self.settings = settings
        self.owner = owner_key(settings)
        self.metrics = Metrics()

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        with (
            EventLog(self.engine) as self.events,
            ReaderKeeper(self.engine),
            _watching_kafka(self.engine),
            Serving(self.engine) as self.serving,
            PlanFollower(self.engine, self.serving.follow, self.settings.poll_s),
        ):
            yield

    async def index(self, _: Request) -> Response:
        return answer({"name": "headrace", "version": __version__, "endpoints": ENDPOINTS})

    async def health(self, _: Request) -> Response:
        try:
            await run_in_threadpool(self.engine.rows, "select 1 as up")
        except EngineError as error:
            return answer({"status": "down", **self._ingest(), **_engine(error)}, 503)
        ingest = self._ingest()
        if ingest["writing_s"] < STUCK_S:
            return answer({"status": "ok", **ingest})
        waits = f"a batch has waited for its commit for {ingest['writing_s']:.0f} s"
        message = f"{waits}: {self.events.failure or self._holder()}; see the log of the gateway"
        stuck = {"error": {"type": "engine", "message": message}}
        return answer({"status": "stuck", **ingest, **stuck}, 503)

    def _holder(self) -> str:
        if self.settings.kafka:
            return f"Kafka at {self.settings.kafka} does not acknowledge it"
        return "a deployment or a session of the database holds it up (pg_stat_activity)"

    def _ingest(self) -> dict[str, Any]:
        return {"queued": self.events.queued, "writing_s": round(self.events.writing_s, 1)}

    async def show_metrics(self, _: Request) -> Response:
        shown = await run_in_threadpool(self.metrics.exposition, self.engine, self.events.queued)
        return Response(shown, media_type=CONTENT_TYPE)

    async def plan(self, _: Request) -> Response:
        return answer({"versions": self.serving.report()})

    def owned(self, handle: Handler) -> Handler:
        """Have a handler ask for the owner's key first."""

        async def ask(request: Request) -> Response:
            if not self.owner.is_in(request.headers.get("authorization", "")):
                raise HttpError(
                    401, "owner",
                    "Authorization: must be Bearer and the owner's key, as this changes what "
                    f"serves; the key is in {self.owner.place}",
                )  # fmt: skip
            return await handle(request)

        return ask

    def ingest(self, topic: Topic) -> Handler:
        async def handle(request: Request) -> Response:
            items, _ = await read_items(request)
            return await self._store(topic, items)

        return handle

    async def _store(self, topic: Topic, items: list[Any]) -> Response:
        events: list[Event] = []
        assumed: list[Sequence[str]] = []
        places: list[int] = []
        broken: list[tuple[object, ContractError]] = []
        rejected: list[dict[str, Any]] = []
        ids: list[str | None] = [None] * len(items)
        for index, item in enumerate(items):
            if index % CHECKED_AT_ONCE == CHECKED_AT_ONCE - 1:
                await asyncio.sleep(0)
            try:
                event = parse(topic, item)
                if isinstance(event, ModelEvent):
                    check_address(event.artifact_uri, self.settings.artifacts_path)
            except ContractError as error:
                broken.append((item, error))
                rejected.append({"index": index, **describe(error)})
            else:
                events.append(event)
                assumed.append(unsaid(item))
                places.append(index)
                ids[index] = getattr(event, IDS[topic])
        stored = asyncio.wrap_future(self.events.submit(topic, events, broken, assumed))
        try:
            receipt = await asyncio.wait_for(stored, ACKNOWLEDGE_TIMEOUT_S)
        except TimeoutError:
            raise HttpError(
                503, "engine", "not stored yet; send the same ids again", retry_after_s=1
            ) from None
        for refused in receipt.refused:
            index = places[refused.index]
            ids[index] = None
            reason = ContractError("", f"storable ({refused.reason})", items[index])
            rejected.append({"index": index, **describe(reason)})
        self.metrics.count(topic, receipt, len(rejected))
        body: dict[str, Any] = {
            "accepted": receipt.accepted,
            "duplicates": receipt.duplicates,
            "conflicts": len(receipt.conflicts),
            "conflicting": [
                {
                    "index": places[conflict.index],
                    "id": ids[places[conflict.index]],
                    "fields": conflict.fields,
                }
                for conflict in receipt.conflicts
            ],
            "rejected": sorted(rejected, key=lambda each: each["index"]),
            "ids": ids,
        }
        if not rejected:
            return answer(body, 201)
        message = f"{len(rejected)} of {len(items)} events broke the contract; the rest is stored"
        if len(items) == 1:
            message = rejected[0]["message"]
        return answer({"error": {"type": "contract", "message": message}, **body}, 422)

    async def predict(self, request: Request) -> Response:
        items, many = await read_items(request)
        answers = await asyncio.gather(
            *(predict(item, self.serving, self.events) for item in items)
        )
        for status, _ in answers:
            self.metrics.count_prediction(status)
        failed = [status for status, _ in answers if status != 200]
        status = 422 if 422 in failed else max(failed, default=200)
        headers = {"Retry-After": "1"} if status in (429, 503) else None
        return answer([body for _, body in answers] if many else answers[0][1], status, headers)

    async def get_policies(self, request: Request) -> Response:
        model = request.path_params["model"]
        return answer(await run_in_threadpool(policies.read, self.engine, model))

    async def put_policies(self, request: Request) -> Response:
        model = request.path_params["model"]
        values = await read_json(request)
        return answer(await run_in_threadpool(policies.write, self.engine, model, values))


def create_app(engine: Engine, settings: Settings | None = None) -> Starlette:
    """Return the ASGI application on `engine`; its lifespan opens and flushes the event log."""
    gateway = Gateway(engine, settings or engine.settings)
    return Starlette(
        routes=[
            Route("/", gateway.index),
            Route("/healthz", gateway.health),
            Route("/metrics", gateway.show_metrics),
            Route("/v1/inferences", gateway.ingest("inference"), methods=["POST"]),
            Route("/v1/feedback", gateway.ingest("feedback"), methods=["POST"]),
            Route(
                "/v1/model-events", gateway.owned(gateway.ingest("model_events")), methods=["POST"]
            ),
            Route("/v1/predict", gateway.predict, methods=["POST"]),
            Route("/v1/plan", gateway.plan),
            Route("/v1/models/{model:path}/policies", gateway.get_policies),
            Route(
                "/v1/models/{model:path}/policies",
                gateway.owned(gateway.put_policies),
                methods=["PUT"],
            ),
        ],
        middleware=[Middleware(Guard, settings=gateway.settings)],
        exception_handlers={
            HttpError: _http_error,
            HTTPException: _starlette_error,
            ContractError: _contract_error,
            BusyError: _known_error,
            EngineError: _known_error,
            Exception: _unknown_error,
        },
        lifespan=gateway.lifespan,
    )


def _watching_kafka(engine: Engine) -> AbstractContextManager[object]:
    if not engine.settings.kafka:
        return nullcontext()
    from headrace.events.kafka.ends import EndsKeeper

    return EndsKeeper(engine)


def _engine(error: EngineError) -> dict[str, Any]:
    return as_http(error).body()


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HttpError)
    return error.response()


async def _starlette_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    known = ", ".join(ENDPOINTS)
    message = f"{request.method} {request.url.path}: no such endpoint; there are {known}"
    kind = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http")
    if kind == "http":
        message = str(error.detail)
    return answer(
        {"error": {"type": kind, "message": message}},
        error.status_code,
        dict(error.headers or {}),
    )


async def _contract_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ContractError)
    return answer({"error": {"type": "contract", **describe(error)}}, 422)


async def _known_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, BusyError | EngineError)
    return as_http(error).response()


async def _unknown_error(*_: object) -> Response:
    """The server logs the exception itself."""
    return HttpError(500, "internal", "the gateway failed on this request; see its log").response()
