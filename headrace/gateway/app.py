"""The HTTP application: its routes and their handlers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
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
from headrace.control.owner import owner_key, reviewer_key
from headrace.control.plan import PlanFollower
from headrace.engine import Engine
from headrace.engine.reader_role import ReaderKeeper
from headrace.errors import EngineError
from headrace.events.contract import Topic
from headrace.events.log import EventLog
from headrace.gateway.explorer import Explorer
from headrace.gateway.guard import Guard
from headrace.gateway.ingest import check_all, receipts_of, stored_response
from headrace.gateway.metrics import CONTENT_TYPE, GatewayMetrics
from headrace.gateway.neighbours import Neighbours
from headrace.gateway.predict import Predictor
from headrace.gateway.rank import rank
from headrace.gateway.review import ReviewDesk, page
from headrace.gateway.scaling import scaling
from headrace.gateway.serving import Serving
from headrace.gateway.wire import EXPECTED, HttpError, http_error, read_items, read_json, respond
from headrace.settings import Settings

Handler = Callable[[Request], Awaitable[Response]]
# /healthz calls a batch stuck that is not written after this long.
STUCK_S = 10.0

ENDPOINTS: dict[str, Any] = {
    "POST /v1/inferences": {
        "does": "stores predictions of models; an object or an array; responds after the commit",
        "example": {
            "model": "churn", "model_version": "7", "request_id": "r-1", "segment": "eu",
            "features": {"age": 31, "plan": "pro"}, "prediction": "stays", "score": 0.2,
        },
    },
    "POST /v1/feedback": {
        "does": "stores feedback on predictions; an object or an array",
        "example": {"request_id": "r-1", "kind": "label", "label": "leaves"},
    },
    "POST /v1/model-events": {
        "does": "stores changes of versions; an object or an array",
        "needs": "Authorization: Bearer, with the owner's key",
        "example": {"model": "churn", "model_version": "7", "event": "promoted"},
    },
    "POST /v1/predict": {
        "does": "has the serving version predict and logs the inference; an object or an array",
        "example": {"model": "churn", "text": "how do I leave?", "features": {"age": 31}},
    },
    "POST /v1/rank": {
        "does": "orders candidates by the serving version and logs an inference for each item",
        "example": {
            "model": "home", "user_id": "u-1",
            "candidates": [{"item_id": "a", "features": {"age_h": 3}}, {"item_id": "b"}],
        },
    },
    "POST /v1/neighbours": {
        "does": "finds the inputs nearest to a text, or to the input of a request_id",
        "needs": "Authorization: Bearer, with the reviewers' key",
        "example": {"model": "churn", "text": "how do I leave?", "k": 10},
    },
    "GET /v1/review": {
        "does": "lists what people are to label of ?model=…, or how much there is of each model",
        "needs": "Authorization: Bearer, with the reviewers' key",
    },
    "POST /v1/review/claim": {
        "does": "gives a reviewer the next prediction to label, for as long as review_lease says",
        "needs": "Authorization: Bearer, with the reviewers' key",
        "example": {"model": "churn", "reviewer": "ann"},
    },
    "POST /v1/review/label": {
        "does": "stores what a reviewer says of a claimed prediction",
        "needs": "Authorization: Bearer, with the reviewers' key",
        "example": {"claim_id": "0199a3f2", "label": "leaves"},
    },
    "POST /v1/review/skip": {
        "does": "leaves a claimed prediction to others",
        "needs": "Authorization: Bearer, with the reviewers' key",
        "example": {"claim_id": "0199a3f2"},
    },
    "POST /v1/review/undo": {
        "does": "takes a label or a skip back, and claims the prediction again",
        "needs": "Authorization: Bearer, with the reviewers' key",
        "example": {"claim_id": "0199a3f2"},
    },
    "GET /review": {"does": "the page for reviewers"},
    "GET /v1/plan": {"does": "returns the versions that serve, and whether each is loaded"},
    "GET /v1/scaling": {"does": "returns the load of all models and of each, for autoscalers"},
    "GET /v1/models/{model}/policies": {"does": "returns the thresholds of a model"},
    "PUT /v1/models/{model}/policies": {
        "does": "sets thresholds of a model; null goes back to the default",
        "needs": "Authorization: Bearer, with the owner's key",
        "example": {"min_new_labels": 200},
    },
    "GET /metrics": {
        "does": "metrics for Prometheus: events, batches, the queues, the lag behind Kafka, load"
    },
    "GET /healthz": {"does": "says whether the database responds and events are stored"},
}  # fmt: skip


class Gateway:
    """The handlers and the state they share."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine = engine
        self.settings = settings
        self.owner = owner_key(settings)
        self.reviewer = reviewer_key(self.owner)
        self.metrics = GatewayMetrics()

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        with (
            EventLog(self.engine) as self.log,
            ReaderKeeper(self.engine),
            _watching_kafka(self.engine),
            Serving(self.engine, self.metrics.measure) as self.serving,
            Explorer(self.engine) as self.explorer,
            PlanFollower(self.engine, self.serving.follow, self.settings.poll_s),
        ):
            self.desk = ReviewDesk(self.engine, self.log)
            self.neighbours = Neighbours(self.engine)
            self.predictor = Predictor(
                self.serving,
                self.explorer,
                self.log,
                self.settings.queue_rows,
                self.metrics.count_shadow,
            )
            yield

    async def index(self, _: Request) -> Response:
        return respond({"name": "headrace", "version": __version__, "endpoints": ENDPOINTS})

    async def health(self, _: Request) -> Response:
        try:
            await run_in_threadpool(self.engine.rows, "select 1 as up")
        except EngineError as error:
            return respond({"status": "down", **self._ingest(), **http_error(error).body()}, 503)
        ingest = self._ingest()
        if ingest["writing_s"] < STUCK_S:
            return respond({"status": "ok", **ingest})
        waits = f"a batch has waited for its commit for {ingest['writing_s']:.0f} s"
        message = f"{waits}: {self.log.failure or self._holder()}; see the log of the gateway"
        stuck = {"error": {"type": "engine", "message": message}}
        return respond({"status": "stuck", **ingest, **stuck}, 503)

    def _holder(self) -> str:
        if self.settings.kafka:
            return f"Kafka at {self.settings.kafka} does not acknowledge it"
        return "a deployment or a session of the database holds it up (pg_stat_activity)"

    def _ingest(self) -> dict[str, Any]:
        return {"queued": self.log.queued, "writing_s": round(self.log.writing_s, 1)}

    async def show_metrics(self, _: Request) -> Response:
        shown = await run_in_threadpool(self.metrics.exposition, self.engine, self.log.queued)
        return Response(shown, media_type=CONTENT_TYPE)

    async def plan(self, _: Request) -> Response:
        return respond({"versions": self.serving.report()})

    async def scaling(self, _: Request) -> Response:
        return respond(await run_in_threadpool(scaling, self.engine))

    def owned(self, handle: Handler) -> Handler:
        """Return a handler that requires the owner's key."""

        async def ask(request: Request) -> Response:
            if not self.owner.is_in(request.headers.get("authorization", "")):
                raise HttpError(
                    401, "owner",
                    "Authorization: must be Bearer and the owner's key, as this changes what "
                    f"serves; the key is in {self.owner.place}",
                )  # fmt: skip
            return await handle(request)

        return ask

    def reviewed(self, part: str, name: str) -> Handler:
        """Return the handler that a part of the gateway has by this name; it requires a key."""

        async def ask(request: Request) -> Response:
            sent = request.headers.get("authorization", "")
            if not (self.reviewer.is_in(sent) or self.owner.is_in(sent)):
                raise HttpError(
                    401, "reviewer",
                    "Authorization: must be Bearer and the reviewers' key, as this shows what "
                    f"predictions were made of; the key is {self.reviewer.place}",
                )  # fmt: skip
            handle: Handler = getattr(getattr(self, part), name)
            return await handle(request)

        return ask

    async def review_page(self, _: Request) -> Response:
        return await run_in_threadpool(page)

    def ingest(self, topic: Topic) -> Handler:
        """Return the handler that stores events of a topic."""

        async def handle(request: Request) -> Response:
            began = time.perf_counter()
            payloads, _ = await read_items(request)
            items = await check_all(topic, payloads, self.settings.artifacts_path)
            stored = self.log.submit(topic, items)
            receipts = await receipts_of(stored)
            response = stored_response(topic, payloads, items, receipts)
            self.metrics.count(topic, receipts)
            self.metrics.time(topic, time.perf_counter() - began, stored)
            return response

        return handle

    async def predict(self, request: Request) -> Response:
        items, many = await read_items(request)
        responses = await self.predictor.predict(items)
        for status, _ in responses:
            self.metrics.count_prediction(status)
        failed = [status for status, _ in responses if status != 200]
        status = 422 if 422 in failed else max(failed, default=200)
        headers = {"Retry-After": "1"} if status in (429, 503) else None
        bodies = [body for _, body in responses]
        return respond(bodies if many else bodies[0], status, headers)

    async def rank(self, request: Request) -> Response:
        status, body = await rank(await read_json(request), self.predictor)
        self.metrics.count_prediction(status)
        return respond(body, status, {"Retry-After": "1"} if status in (429, 503) else None)

    async def get_policies(self, request: Request) -> Response:
        model = request.path_params["model"]
        return respond(await run_in_threadpool(policies.read, self.engine, model))

    async def put_policies(self, request: Request) -> Response:
        model = request.path_params["model"]
        values = await read_json(request)
        return respond(await run_in_threadpool(policies.write, self.engine, model, values))


def create_app(engine: Engine, settings: Settings | None = None) -> Starlette:
    """Return the ASGI application on `engine`; its lifespan opens and flushes the event log."""
    gateway = Gateway(engine, settings or engine.settings)
    return Starlette(
        routes=[  # they are tried in order
            Route("/v1/predict", gateway.predict, methods=["POST"]),
            Route("/", gateway.index),
            Route("/healthz", gateway.health),
            Route("/metrics", gateway.show_metrics),
            Route("/v1/inferences", gateway.ingest("inference"), methods=["POST"]),
            Route("/v1/feedback", gateway.ingest("feedback"), methods=["POST"]),
            Route(
                "/v1/model-events", gateway.owned(gateway.ingest("model_events")), methods=["POST"]
            ),
            Route("/v1/rank", gateway.rank, methods=["POST"]),
            Route("/review", gateway.review_page),
            Route("/v1/neighbours", gateway.reviewed("neighbours", "find"), methods=["POST"]),
            Route("/v1/review", gateway.reviewed("desk", "listed")),
            *(
                Route(f"/v1/review/{name}", gateway.reviewed("desk", name), methods=["POST"])
                for name in ("claim", "label", "skip", "undo")
            ),
            Route("/v1/plan", gateway.plan),
            Route("/v1/scaling", gateway.scaling),
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
            **dict.fromkeys(EXPECTED, _expected_error),
            Exception: _unknown_error,
        },
        lifespan=gateway.lifespan,
    )


def _watching_kafka(engine: Engine) -> AbstractContextManager[object]:
    if not engine.settings.kafka:
        return nullcontext()
    from headrace.events.kafka.end_offsets import EndOffsetsRecorder

    return EndOffsetsRecorder(engine)


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
    return respond(
        {"error": {"type": kind, "message": message}},
        error.status_code,
        dict(error.headers or {}),
    )


async def _expected_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, EXPECTED)
    return http_error(error).response()


async def _unknown_error(*_: object) -> Response:
    """The server logs the exception itself."""
    return HttpError(500, "internal", "the gateway failed on this request; see its log").response()
