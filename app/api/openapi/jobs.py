"""Jobs, for the OpenAPI document."""

from enum import StrEnum
from typing import Any

import msgspec

from app.api.openapi import parts
from app.api.openapi.parts import Part
from app.api.openapi.results import RESULTS
from app.inputs import (
    CacheDelete,
    CacheGet,
    CacheInvalidate,
    CachePut,
    CacheWarm,
    ChatInput,
    JobRequest,
    ModelInput,
    QueuePublish,
    QueueRead,
)
from app.job import Lane, Route, Service, State

_EVENTS = """Events: `queued` (`position`, `eta_s`), `started` (`attempt`), `token` (`text` or `reasoning_content`, and
`attempt`), `restarted` (`attempt`: throw away the text you have, it comes anew), and last `succeeded`, `failed`,
`cancelled` or `expired` (the job). The text of all tokens since the last `started` or `restarted` is the result's. A
stream that ends before the last event is to be opened again with `Last-Event-ID`."""

_TAKEN: dict[Service, tuple[type, ...]] = {
    Service.MODEL: (ModelInput,), Service.CHAT: (ChatInput,),
    Service.CACHE: (CachePut, CacheGet, CacheDelete, CacheInvalidate, CacheWarm),
    Service.QUEUE: (QueuePublish, QueueRead)}
_INPUTS = tuple(kind for kinds in _TAKEN.values() for kind in kinds)

#: Which input goes with which service.
BY_SERVICE = [{
    "title": f"A job of the {service} service", "properties": {
        "service": {"const": service.value}, "input": {"anyOf": [parts.ref(kind.__name__) for kind in kinds]}},
} for service, kinds in _TAKEN.items()]


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


class Decision(msgspec.Struct):
    """Why the job went where it went: the rule that decided, the server it chose, and the figures in words."""

    rule: str
    server: str | None
    detail: str


class JobSummary(msgspec.Struct):
    """A job as a list has it: without its result, its error, and why it went where it went. Times are RFC 3339 in UTC."""

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


class JobObject(JobSummary):
    """A job as its caller sees it. Times are RFC 3339 in UTC."""

    result: dict[str, Any] | None
    error: JobError | None
    decision: Decision | None


class JobPage(msgspec.Struct):
    """The caller's own jobs, newest first. While `next_cursor` is not null there may be more, however few came."""

    data: list[JobSummary]
    next_cursor: str | None


class JobList(msgspec.Struct):
    """The jobs that `ids` named, in that order, and the ids that name no job of the caller."""

    data: list[JobObject]
    missing: list[str]


def _choice(name: str, kind: type[StrEnum], description: str) -> dict[str, Any]:
    return parts.query(name, {"type": "string", "enum": list(kind)}, description)


_JOB_ID = parts.path("job_id", {"type": "string", "format": "uuid"})
_WAIT = parts.query("wait", {"type": "number", "minimum": 0, "maximum": 60},
                    "Hold the answer until the job ends, or so many seconds.")
_LAST_EVENT = parts.header("Last-Event-ID", "The id of the last event that was read: what follows it is sent.")
_STARTING_AFTER = parts.query("starting_after", {"type": "string"}, "The same, where no header can be set.")
_LIST = [
    parts.query("ids", {"type": "string"}, "Up to 100 ids with commas between: these jobs, whole. Goes with nothing else."),
    _choice("state", State, "Only jobs in this state."), _choice("service", Service, "Only jobs of this service."),
    _choice("lane", Lane, "Only jobs of this lane."),
    parts.query("cursor", {"type": "string"}, "The `next_cursor` of the page before."),
    parts.query("limit", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}, "Jobs on a page, at most.")]
_NOT_CHANGED = parts.with_headers({"description": "The job is as the caller has it"}, "ETag", "Retry-After")
_KEPT = parts.with_headers(parts.json("JobObject", "The job"), "ETag", "Retry-After", "Preference-Applied")
_NOW = {"200": parts.with_headers(parts.json("JobObject", "The job now"), "Retry-After"), **parts.problems(404, 410)}
_LINKS = {operation: {"operationId": operation, "parameters": {"job_id": "$response.body#/id"}}
          for operation in ("readJob", "followJob", "cancelJob")}
_CREATING = [_JOB_ID, parts.PREFER, parts.CANCEL_AFTER, parts.TRACEPARENT]

JOBS = Part(schemas=(JobRequest, JobObject, JobPage, JobList, *_INPUTS, *RESULTS), paths={
    "/v1/jobs": {
        "post": {
            "operationId": "submitJob", "summary": "Submit a job", "parameters": parts.MAKING,
            "requestBody": parts.body("JobRequest"), "responses": parts.accepted("JobObject", links=_LINKS)},
        "get": {
            "operationId": "listJobs", "summary": "List the caller's jobs, or read many", "parameters": _LIST,
            "responses": {"200": {"description": "The jobs", "content": {"application/json": {"schema": {
                "anyOf": [parts.ref("JobPage"), parts.ref("JobList")]}}}}, **parts.problems(422)}}},
    "/v1/jobs/{job_id}": {
        "get": {"operationId": "readJob", "summary": "Read a job",
                "parameters": [_JOB_ID, _WAIT, parts.PREFER, parts.IF_NONE_MATCH],
                "responses": {"200": _KEPT, "304": _NOT_CHANGED, **parts.problems(404, 410, 422)}},
        "put": {"operationId": "createJob", "summary": "Submit a job under an id of the caller's choice",
                "description": "The same id and body give the same job, so an `Idempotency-Key` is not looked at.",
                "parameters": _CREATING, "requestBody": parts.body("JobRequest"),
                "responses": {**parts.accepted("JobObject"), **parts.problems(404, 409, 410)}},
        "delete": {"operationId": "cancelJob", "summary": "Cancel a job", "parameters": [_JOB_ID], "responses": _NOW}},
    "/v1/jobs/{job_id}/cancel": {"post": {
        "operationId": "cancelJobByPost", "summary": "Cancel a job", "parameters": [_JOB_ID], "responses": _NOW}},
    "/v1/jobs/{job_id}/events": {"get": {
        "operationId": "followJob", "summary": "Follow a job as server-sent events",
        "description": _EVENTS, "parameters": [_JOB_ID, _LAST_EVENT, _STARTING_AFTER],
        "responses": {"200": parts.event_stream("The events from there on, as they come"),
                      "204": {"description": "The last event was read; do not come back"},
                      **parts.problems(400, 404, 410)}}},
})
