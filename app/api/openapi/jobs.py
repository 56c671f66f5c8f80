"""Jobs, for the OpenAPI document."""

from typing import Any

import msgspec

from app.api.openapi import parts
from app.api.openapi.parts import Part
from app.inputs import CacheDelete, CacheGet, CachePut, ChatInput, JobRequest, ModelInput, QueuePublish, QueueRead
from app.job import Lane, Route, Service, State

_EVENTS = """Events: `queued` (`position`, `eta_s`), `started` (`attempt`), `token` (`text` or `reasoning_content`, and
`attempt`), `restarted` (`attempt`: throw away the text you have, it comes anew), and last `succeeded`, `failed`,
`cancelled` or `expired` (the job). The text of all tokens since the last `started` or `restarted` is the result's. A
stream that ends before the last event is to be opened again with `Last-Event-ID`."""

INPUTS = (ModelInput, ChatInput, CachePut, CacheGet, CacheDelete, QueuePublish, QueueRead)


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


_JOB_ID = parts.path("job_id", {"type": "string", "format": "uuid"})
_WAIT = parts.query("wait", {"type": "number", "minimum": 0, "maximum": 60},
                    "Hold the answer until the job ends, or so many seconds.")
_LAST_EVENT = parts.header("Last-Event-ID", "The id of the last event that was read: what follows it is sent.")
_STARTING_AFTER = parts.query("starting_after", {"type": "string"}, "The same, where no header can be set.")

JOBS = Part(schemas=(JobRequest, JobObject, *INPUTS), paths={
    "/v1/jobs": {"post": {
        "operationId": "submitJob", "summary": "Submit a job", "parameters": [parts.PREFER, parts.IDEMPOTENCY],
        "requestBody": parts.body("JobRequest"),
        "responses": {"202": parts.json("JobObject", "Accepted"),
                      "200": parts.json("JobObject", "Ended while the caller waited"),
                      **parts.problems(400, 401, 403, 413, 415, 422, 503)}}},
    "/v1/jobs/{job_id}": {
        "get": {"operationId": "readJob", "summary": "Read a job", "parameters": [_JOB_ID, _WAIT, parts.PREFER],
                "responses": {"200": parts.json("JobObject", "The job"), **parts.problems(401, 404, 410, 422, 503)}},
        "delete": {"operationId": "cancelJob", "summary": "Cancel a job", "parameters": [_JOB_ID],
                   "responses": {"200": parts.json("JobObject", "The job now"), **parts.problems(401, 404, 410, 503)}}},
    "/v1/jobs/{job_id}/cancel": {"post": {
        "operationId": "cancelJobByPost", "summary": "Cancel a job", "parameters": [_JOB_ID],
        "responses": {"200": parts.json("JobObject", "The job now"), **parts.problems(401, 404, 410, 503)}}},
    "/v1/jobs/{job_id}/events": {"get": {
        "operationId": "followJob", "summary": "Follow a job as server-sent events",
        "description": _EVENTS, "parameters": [_JOB_ID, _LAST_EVENT, _STARTING_AFTER],
        "responses": {"200": {"description": "The events from there on, as they come", "content": {
            "text/event-stream": {"schema": {"type": "string"}}}},
            "204": {"description": "The last event was read; do not come back"},
            **parts.problems(400, 401, 404, 410, 503)}}},
})
