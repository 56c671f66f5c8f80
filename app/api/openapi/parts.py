"""What the parts of the OpenAPI document are made of."""

from typing import Any

import msgspec


class Part(msgspec.Struct, frozen=True):
    """A part of the document: `paths` as OpenAPI has them, and the structs that they name by `ref`."""

    paths: dict[str, Any]
    schemas: tuple[type, ...] = ()


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


class ServerSentEvent(msgspec.Struct):
    """One event of a stream; `data` is JSON, but for a last `[DONE]` where OpenAI's streams have it."""

    data: str
    event: str | msgspec.UnsetType = msgspec.UNSET
    id: str | msgspec.UnsetType = msgspec.UNSET


def ref(name: str) -> dict[str, str]:
    """Refer to a schema by the name of its struct."""
    return {"$ref": f"#/components/schemas/{name}"}


def body(name: str) -> dict[str, Any]:
    """A request body."""
    return {"required": True, "content": {"application/json": {"schema": ref(name)}}}


def json(name: str, description: str) -> dict[str, Any]:
    """A JSON answer."""
    return {"description": description, "content": {"application/json": {"schema": ref(name)}}}


def event_stream(description: str) -> dict[str, Any]:
    """An answer of server-sent events. The schema is that of each event, as OpenAPI 3.2 says by `itemSchema`."""
    return {"description": description, "content": {"text/event-stream": {"schema": ref("ServerSentEvent")}}}


def query(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    """A parameter of the query."""
    return {"name": name, "in": "query", "schema": schema, "description": description}


def path(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter of the path."""
    return {"name": name, "in": "path", "required": True, "schema": schema}


def header(name: str, description: str) -> dict[str, Any]:
    """A request header."""
    return {"name": name, "in": "header", "description": description, "schema": {"type": "string"}}


def problems(*statuses: int) -> dict[str, Any]:
    """Answers that are problems."""
    return {str(status): {"description": "A problem", "content": {
        "application/problem+json": {"schema": ref("Problem")}}} for status in statuses}


def header_ref(name: str) -> dict[str, str]:
    """Refer to a response header by its name; `HEADERS` has them."""
    return {"$ref": f"#/components/headers/{name}"}


def with_headers(response: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return an answer with these headers beside those it has."""
    return {**response, "headers": {**response.get("headers", {}), **{name: header_ref(name) for name in names}}}


def _told(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "schema": schema}


_WHOLE = {"type": "integer", "minimum": 0}

#: The headers of answers.
HEADERS = {
    "X-Request-Id": _told("The request's id: the caller's own if it sent a sane one.", {"type": "string"}),
    "Location": _told("Where the job is read.", {"type": "string"}),
    "Retry-After": _told("Seconds after which it is worth asking again.", _WHOLE),
    "ETag": _told("Names these very bytes; send it back as `If-None-Match`.", {"type": "string"}),
    "WWW-Authenticate": _told("Which credentials are asked for.", {"type": "string"}),
    "Preference-Applied": _told("Which preference was followed (RFC 7240).", {"type": "string"}),
    "Idempotency-Replayed": _told("`true` where the job had been accepted before.", {"type": "string", "enum": ["true"]}),
    "RateLimit": _told("What is left of the tenant's limits.", {"type": "string"}),
    "RateLimit-Policy": _told("The tenant's limits.", {"type": "string"}),
    **{f"x-ratelimit-{what}-{limit}": _told(f"{text} ({limit}), as OpenAI tells it.", schema)
       for limit in ("requests", "tokens", "jobs") for what, text, schema in (
           ("limit", "A limit of the tenant", _WHOLE), ("remaining", "What is left of it", _WHOLE),
           ("reset", "When it is whole again, e.g. `1.5s`", {"type": "string"}))},
}

#: The headers that tell the tenant's limits.
LIMITS = tuple(name for name in HEADERS if name.lower().startswith(("ratelimit", "x-ratelimit")))

PREFER = header("Prefer", "`wait=N`: hold the answer until the job ends, or N seconds (RFC 7240).")
IDEMPOTENCY = header("Idempotency-Key", "The same key and body give the same job for 24 hours.")
CANCEL_AFTER = header("Cancel-After", "A deadline: `30s`, `500ms`, `2m`, `1h30m` or bare seconds. A job that had not "
                      "started by then is `expired`, one that runs `cancelled`. Beside `deadline_s`, the earlier counts.")
TRACEPARENT = header("traceparent", "W3C trace context; it travels with the job.")
IF_NONE_MATCH = header("If-None-Match", "The `ETag` of what the caller has: 304 where that is still right.")

#: What a request that makes a job may carry.
MAKING = [PREFER, IDEMPOTENCY, CANCEL_AFTER, TRACEPARENT]


#: What 503 says of a request that makes a job.
NOT_TAKEN = ("The job was not accepted, for a reason that passes: `store-unavailable`; or `temporary-reduced-capacity`, as "
             "new jobs of its lane are refused for the moment")


def accepted(name: str, links: dict[str, Any] | None = None) -> dict[str, Any]:
    """The answers to a request that makes a job, all but the problems that every route with a body has. `links` say what
    can be done with the job."""
    common = ("Location", "Preference-Applied", "Idempotency-Replayed", *LIMITS)
    return {"202": with_headers({**json(name, "Accepted"), "links": links or {}}, *common, "Retry-After"),
            "200": with_headers({**json(name, "Ended while the caller waited"), "links": links or {}}, *common),
            **problems(429), "503": {**problems(503)["503"], "description": NOT_TAKEN}}
