"""The OpenAPI 3.1 document, generated from the structs that validate requests: a part for each blueprint."""

import functools
from importlib import metadata
from typing import Any

import msgspec

from app.api.openapi import parts
from app.api.openapi.auth import AUTH
from app.api.openapi.completions import COMPLETIONS
from app.api.openapi.conversations import CONVERSATIONS
from app.api.openapi.events import EVENTS
from app.api.openapi.jobs import BY_SERVICE, JOBS
from app.api.openapi.parts import Problem, ServerSentEvent
from app.api.openapi.results import RESULTS
from app.api.openapi.routing import ROUTING
from app.api.openapi.service import SERVICE

_PARTS = (JOBS, EVENTS, AUTH, SERVICE, ROUTING, COMPLETIONS, CONVERSATIONS)


#: What every route can answer that asks for credentials; and every one that takes a body.
_SECURED = (401, 403, 503)
_WITH_BODY = (400, 408, 413, 415, 422)

#: Headers that go with a status, on whatever route.
_BY_STATUS = {
    "401": ("WWW-Authenticate",), "429": ("Retry-After", *parts.LIMITS), "503": ("Retry-After",)}


@functools.cache
def document() -> dict[str, Any]:
    """Return the document."""
    kinds = [Problem, ServerSentEvent, *(schema for part in _PARTS for schema in part.schemas)]
    _, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    components["JobRequest"] |= {"anyOf": BY_SERVICE}
    components["ModelInput"] |= {"oneOf": [{"required": ["messages"]}, {"required": ["prompt"]}]}
    components["JobObject"]["properties"]["result"] = {
        "description": "What the service answered; null until it has, and where it failed.",
        "anyOf": [*(parts.ref(kind.__name__) for kind in RESULTS), {"type": "null"}]}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tandem", "version": metadata.version("tandem"),
                 "description": "Submit jobs for language models, and read, await or cancel them."},
        "paths": {path: {method: {"tags": [_subject(path)], **_whole(operation)} for method, operation in item.items()}
                  for part in _PARTS for path, item in part.paths.items()},
        "components": {"schemas": components, "headers": parts.HEADERS, "securitySchemes": {
            "bearer": {"type": "http", "scheme": "bearer", "description": "An access token, or an API key (tk_...)."}}},
        "security": [{"bearer": []}],
    }


def _subject(path: str) -> str:
    """Under which heading a path is shown: the thing it is about."""
    first, _, rest = path.strip("/").partition("/")
    return rest.partition("/")[0].capitalize() if first == "v1" else "Service"


def _whole(operation: dict[str, Any]) -> dict[str, Any]:
    """Return an operation with what all have in common: the problems that any can answer, and the headers of answers. A
    status for which it has None it never answers."""
    common = (*(_SECURED if operation.get("security") != [] else ()), *(_WITH_BODY if "requestBody" in operation else ()))
    responses = {**parts.problems(*common), **operation["responses"]}
    return {**operation, "responses": {
        status: parts.with_headers(responses[status], "X-Request-Id", *_BY_STATUS.get(status, ()))
        for status in sorted(responses) if responses[status]}}
