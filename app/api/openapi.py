"""The OpenAPI 3.1 document, generated from the structs that validate requests."""

import functools
from importlib import metadata
from typing import Any

import msgspec

from app.api.auth import LoginRequest, LoginResponse
from app.inputs import CacheDelete, CacheGet, CachePut, ChatInput, JobRequest, ModelInput, QueuePublish, QueueRead
from app.job import Lane, Route, Service, State

_EVENTS = """Events: `queued` (`position`, `eta_s`), `started` (`attempt`), `token` (`text` or `reasoning_content`, and
`attempt`), `restarted` (`attempt`: throw away the text you have, it comes anew), and last `succeeded`, `failed`,
`cancelled` or `expired` (the job). The text of all tokens since the last `started` or `restarted` is the result's. A
stream that ends before the last event is to be opened again with `Last-Event-ID`."""

_INPUTS = (ModelInput, ChatInput, CachePut, CacheGet, CacheDelete, QueuePublish, QueueRead)


class Usage(msgspec.Struct):
    """Tokens of a job."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


class JobError(msgspec.Struct):
    """Why a job did not succeed."""

    code: str
    detail: str
    fault: str


class JobObject(msgspec.Struct):
    """A job as its caller sees it. Times are RFC 3339 in UTC."""

    id: str
    service: Service
    task: str
    state: State
    lane: Lane
    route: Route
    server: str | None
    processor: str | None
    attempt: int
    durability: int
    position: int | None
    eta_s: float | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    usage: Usage | None
    result: Any
    error: JobError | None
    decision: Any


class Problem(msgspec.Struct):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    pointer: str | msgspec.UnsetType = msgspec.UNSET


class Alive(msgspec.Struct):
    """Health or readiness."""

    status: str


@functools.cache
def document() -> dict[str, Any]:
    """Return the document."""
    kinds = [JobRequest, LoginRequest, LoginResponse, JobObject, Problem, Alive, *_INPUTS]
    _, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    components["JobRequest"]["properties"]["input"] = {
        "description": "What the service takes; the service named decides which of these applies.",
        "oneOf": [_ref(kind.__name__) for kind in _INPUTS]}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tandem", "version": metadata.version("tandem"),
                 "description": "Submit jobs for language models, and read, await or cancel them."},
        "paths": _paths(),
        "components": {"schemas": components, "securitySchemes": {
            "bearer": {"type": "http", "scheme": "bearer", "description": "An access token, or an API key (tk_...)."}}},
        "security": [{"bearer": []}],
    }


def _paths() -> dict[str, Any]:
    job_id = {"name": "job_id", "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}
    wait = {"name": "wait", "in": "query", "schema": {"type": "number", "minimum": 0, "maximum": 60},
            "description": "Hold the answer until the job ends, or so many seconds."}
    prefer = _header("Prefer", "`wait=N`: hold the answer until the job ends, or N seconds (RFC 7240).")
    idempotency = _header("Idempotency-Key", "The same key and body give the same job for 24 hours.")
    last_event = _header("Last-Event-ID", "The id of the last event that was read: what follows it is sent.")
    starting_after = {"name": "starting_after", "in": "query", "schema": {"type": "string"},
                      "description": "The same, where no header can be set."}
    return {
        "/v1/jobs": {"post": {
            "operationId": "submitJob", "summary": "Submit a job", "parameters": [prefer, idempotency],
            "requestBody": _body("JobRequest"),
            "responses": {"202": _json("JobObject", "Accepted"), "200": _json("JobObject", "Ended while the caller waited"),
                          **_problems(400, 401, 403, 413, 415, 422, 503)}}},
        "/v1/jobs/{job_id}": {
            "get": {"operationId": "readJob", "summary": "Read a job", "parameters": [job_id, wait, prefer],
                    "responses": {"200": _json("JobObject", "The job"), **_problems(401, 404, 410, 422, 503)}},
            "delete": {"operationId": "cancelJob", "summary": "Cancel a job", "parameters": [job_id],
                       "responses": {"200": _json("JobObject", "The job now"), **_problems(401, 404, 410, 503)}}},
        "/v1/jobs/{job_id}/cancel": {"post": {
            "operationId": "cancelJobByPost", "summary": "Cancel a job", "parameters": [job_id],
            "responses": {"200": _json("JobObject", "The job now"), **_problems(401, 404, 410, 503)}}},
        "/v1/jobs/{job_id}/events": {"get": {
            "operationId": "followJob", "summary": "Follow a job as server-sent events",
            "description": _EVENTS, "parameters": [job_id, last_event, starting_after],
            "responses": {"200": {"description": "The events from there on, as they come", "content": {
                "text/event-stream": {"schema": {"type": "string"}}}},
                "204": {"description": "The last event was read; do not come back"},
                **_problems(400, 401, 404, 410, 503)}}},
        "/v1/auth/login": {"post": {
            "operationId": "login", "summary": "Exchange a password for an access token", "security": [],
            "requestBody": _body("LoginRequest"),
            "responses": {"200": _json("LoginResponse", "Logged in"), **_problems(400, 401, 413, 415, 422, 503)}}},
        "/v1/status": {"get": {
            "operationId": "status", "summary": "Servers, workers, pins, queues and books (operators)",
            "responses": {"200": {"description": "The state of the system", "content": {
                "application/json": {"schema": {"type": "object"}}}}, **_problems(401, 403, 503)}}},
        "/healthz": {"get": {"operationId": "healthz", "summary": "Is the process alive", "security": [],
                             "responses": {"200": _json("Alive", "Alive")}}},
        "/readyz": {"get": {"operationId": "readyz", "summary": "Can jobs be accepted", "security": [],
                            "responses": {"200": _json("Alive", "Ready"), **_problems(503)}}},
        "/openapi.json": {"get": {"operationId": "openapi", "summary": "This document", "security": [],
                                  "responses": {"200": {"description": "OpenAPI 3.1", "content": {
                                      "application/json": {"schema": {"type": "object"}}}}}}},
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _body(name: str) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": _ref(name)}}}


def _json(name: str, description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": _ref(name)}}}


def _header(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": description, "schema": {"type": "string"}}


def _problems(*statuses: int) -> dict[str, Any]:
    return {str(status): {"description": "A problem", "content": {
        "application/problem+json": {"schema": _ref("Problem")}}} for status in statuses}
