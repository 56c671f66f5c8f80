"""Request bodies in, response bodies out, and the gateway's parts for the request at hand."""

from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec
from flask import Response, current_app, request

from app.errors import InvalidInput, MalformedRequest, UnsupportedMedia
from app.inputs import invalid

if TYPE_CHECKING:
    from app.api import Gateway

Body = TypeVar("Body")


def gateway() -> "Gateway":
    """The parts of the gateway."""
    return cast("Gateway", current_app.extensions["tandem"])


def json_body() -> bytes:
    """Return the request's body, which must say that it is JSON. Raises `UnsupportedMedia` or `MalformedRequest`."""
    if request.mimetype != "application/json":
        raise UnsupportedMedia(f"send the body as application/json; it came as '{request.mimetype or 'nothing'}'")
    body = request.get_data(cache=False)
    if not body:
        raise MalformedRequest("the body is empty; send a JSON object")
    return body


def decode(body: bytes, kind: type[Body]) -> Body:
    """Return the body as a struct. Raises `MalformedRequest` or `InvalidInput`."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as exc:
        raise invalid(exc) from exc
    except msgspec.DecodeError as exc:
        raise malformed(exc) from exc
    except RecursionError as exc:
        raise InvalidInput("the JSON is nested too deeply", pointer="") from exc


def malformed(exc: msgspec.DecodeError) -> MalformedRequest:
    """Say what keeps a body from being JSON."""
    return MalformedRequest(f"the body is not JSON: {exc}")


def json_response(body: Any, status: int = 200) -> Response:
    """Return a JSON response."""
    return Response(msgspec.json.encode(body), status, mimetype="application/json")
