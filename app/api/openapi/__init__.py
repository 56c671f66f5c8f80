"""The OpenAPI 3.1 document, generated from the structs that validate requests: a part for each blueprint."""

import functools
from importlib import metadata
from typing import Any

import msgspec

from app.api.openapi import parts
from app.api.openapi.auth import AUTH
from app.api.openapi.jobs import INPUTS, JOBS
from app.api.openapi.parts import Problem
from app.api.openapi.service import SERVICE

_PARTS = (JOBS, AUTH, SERVICE)


@functools.cache
def document() -> dict[str, Any]:
    """Return the document."""
    kinds = [Problem, *(schema for part in _PARTS for schema in part.schemas)]
    _, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    components["JobRequest"]["properties"]["input"] = {
        "description": "What the service takes; the service named decides which of these applies.",
        "oneOf": [parts.ref(kind.__name__) for kind in INPUTS]}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tandem", "version": metadata.version("tandem"),
                 "description": "Submit jobs for language models, and read, await or cancel them."},
        "paths": {path: item for part in _PARTS for path, item in part.paths.items()},
        "components": {"schemas": components, "securitySchemes": {
            "bearer": {"type": "http", "scheme": "bearer", "description": "An access token, or an API key (tk_...)."}}},
        "security": [{"bearer": []}],
    }
