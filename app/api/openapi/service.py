"""The gateway about itself, for the OpenAPI document."""

from typing import Any, Literal

import msgspec

from app.api.openapi import parts
from app.api.openapi.parts import Part
from app.routing_view import RoutingView


class Alive(msgspec.Struct):
    """Health or readiness."""

    status: Literal["alive", "ready"]


class LiveWorker(msgspec.Struct):
    """A worker process as it says itself. The CPUs are those the kernel keeps it to; `figures` is what it counts."""

    pid: int
    cpus: list[int]
    slots: int
    busy: int
    figures: dict[str, float]


class Worker(msgspec.Struct):
    """A worker of the topology, and the process that is it now."""

    name: str
    services: list[str]
    processors: list[str]
    concurrency: int
    live: LiveWorker | None


class Server(msgspec.Struct):
    """A server of the topology."""

    name: str
    gateway: str
    workers: list[Worker]


class Queue(msgspec.Struct):
    """A service's queue: jobs that may run now, those of them with and without a wake-up, jobs running, those of them in
    the cloud, jobs sent there and not begun, jobs held for another's end, messages in the Celery queue, and how long the
    oldest waiting job has waited."""

    waiting: int
    woken: int
    backlog: int
    running: int
    in_cloud: int
    sent: int
    held: int
    messages: int
    oldest_s: float


class CloudLink(msgspec.Struct):
    """A thread at home that sends to the cloud or hears from it: whether it reaches MNS, for how long it has or has not,
    and why it does not."""

    thread: str
    reachable: bool
    why: str
    for_s: float


class CloudWorker(msgspec.Struct):
    """A live cloud worker, as it says itself; `heard_s` is how long ago it was last heard of."""

    name: str
    processors: list[str]
    slots: int
    busy: int
    engine: str
    stopping: bool
    heard_s: float
    figures: dict[str, float]


class Cloud(msgspec.Struct):
    """The cloud: whether a queue worker at home reaches its queues (null where none has said; `links` has each), jobs sent
    that nobody there is known to have begun, jobs that run there, and the workers that live."""

    url: str
    prefix: str
    reachable: bool | None
    links: list[CloudLink]
    sent: int
    running: int
    workers: list[CloudWorker]


class Status(msgspec.Struct):
    """The state of the system. `counts` holds all that the ledger has counted, by name; `cloud` is null where no MNS is
    set."""

    profile: str
    gateway: str
    servers: list[Server]
    queues: dict[str, Queue]
    cloud: Cloud | None
    routing: RoutingView
    delayed: int
    running: int
    counts: dict[str, int]
    balanced: bool


def _text(kind: str, description: str) -> dict[str, Any]:
    return {"description": description, "content": {kind: {"schema": {"type": "string"}}}}


_NOT_CHANGED = {"description": "What the caller has is still right", "headers": {"ETag": parts.header_ref("ETag")}}
_KINDS = ("text/css", "text/javascript", "image/svg+xml", "text/plain")
_FILE = {"type": "string", "description": "A file that a page is made of."}

SERVICE = Part(schemas=(Alive, Status), paths={
    "/v1/status": {"get": {
        "operationId": "status", "summary": "Servers, workers, pins, queues, cloud, routing and books (operators)",
        "responses": {"200": parts.json("Status", "The state of the system")}}},
    "/metrics": {"get": {
        "operationId": "metrics", "summary": "Metrics for Prometheus (operators, or the scraper's own token)",
        "description": "Where the request says that it takes it, the format is OpenMetrics.",
        "responses": {"200": {"description": "The metrics", "content": {
            "text/plain": {"schema": {"type": "string"}},
            "application/openmetrics-text": {"schema": {"type": "string"}}}}}}},
    "/healthz": {"get": {"operationId": "healthz", "summary": "Is the process alive", "security": [],
                         "responses": {"200": parts.json("Alive", "Alive")}}},
    "/readyz": {"get": {"operationId": "readyz", "summary": "Can jobs be accepted", "security": [],
                        "responses": {"200": parts.json("Alive", "Ready"), **parts.problems(503)}}},
    "/openapi.json": {"get": {"operationId": "openapi", "summary": "This document", "security": [],
                              "parameters": [parts.IF_NONE_MATCH],
                              "responses": {"200": {"description": "OpenAPI 3.1", "content": {
                                  "application/json": {"schema": {"type": "object"}}}}, "304": _NOT_CHANGED}}},
    "/": {"get": {"operationId": "chatPage", "summary": "A page to talk with the model", "security": [],
                  "parameters": [parts.IF_NONE_MATCH],
                  "responses": {"200": _text("text/html", "A page"), "304": _NOT_CHANGED}}},
    "/console": {"get": {"operationId": "consolePage", "summary": "A page on which operators watch it", "security": [],
                         "parameters": [parts.IF_NONE_MATCH],
                         "responses": {"200": _text("text/html", "A page"), "304": _NOT_CHANGED}}},
    "/docs": {"get": {"operationId": "docs", "summary": "This document, for people", "security": [],
                      "parameters": [parts.IF_NONE_MATCH],
                      "responses": {"200": _text("text/html", "A page"), "304": _NOT_CHANGED}}},
    "/static/{name}": {"get": {
        "operationId": "readFile", "summary": "What the pages are made of", "security": [],
        "parameters": [parts.path("name", _FILE), parts.IF_NONE_MATCH],
        "responses": {"200": {"description": "The file", "content": {
            kind: {"schema": {"type": "string"}} for kind in _KINDS}},
            "304": _NOT_CHANGED, **parts.problems(404)}}},
})
