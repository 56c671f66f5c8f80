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
    """An answer of server-sent events."""
    return {"description": description, "content": {"text/event-stream": {"schema": {"type": "string"}}}}


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


PREFER = header("Prefer", "`wait=N`: hold the answer until the job ends, or N seconds (RFC 7240).")
IDEMPOTENCY = header("Idempotency-Key", "The same key and body give the same job for 24 hours.")
