"""Request bodies in, response bodies out, and the gateway's parts for the request at hand."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec
from flask import Response, current_app, request
from werkzeug.datastructures import Headers

from app.errors import InvalidInput, MalformedRequest, UnsupportedMedia
from app.inputs import invalid

if TYPE_CHECKING:
    from app.api import Gateway

Body = TypeVar("Body")


class WholeResponse(Response):
    """A response whose body is there and whose headers are final, so that werkzeug need not go over them again: every
    answer of the gateway is one, and on the hot path that is a tenth of its time."""

    def get_wsgi_headers(self, environ: Any) -> Headers:  # noqa: ARG002 - werkzeug passes it
        """Return the headers as they are."""
        return self.headers


def gateway() -> "Gateway":
    """The parts of the gateway."""
    return cast("Gateway", current_app.extensions["tandem"])


def json_body() -> bytes:
    """Return the request's body, which must say that it is JSON. Raises `UnsupportedMedia` or `MalformedRequest`."""
    if request.environ.get("CONTENT_TYPE") != "application/json" and request.mimetype != "application/json":
        raise UnsupportedMedia(f"send the body as application/json; it came as '{request.mimetype or 'nothing'}'")
    body = _body()
    if not body:
        raise MalformedRequest("the body is empty; send a JSON object")
    return body


def _body() -> bytes:
    """Return the body. One of stated and lawful length is read straight from the server; Flask's own way, which is five
    times as slow, is left for chunked bodies and for refusing what is too large."""
    length, most = request.content_length, current_app.config["MAX_CONTENT_LENGTH"]
    if length is None or length > most:
        return request.get_data(cache=False)
    body: bytes = request.environ["wsgi.input"].read(length)
    if len(body) < length:
        raise MalformedRequest(f"the connection ended after {len(body)} of the body's {length} bytes")
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


def json_response(body: Any, status: int = 200, headers: Iterable[tuple[str, str]] = (), *,
                  content_type: str = "application/json") -> Response:
    """Return a JSON response, with these headers beside those that every body has."""
    text = msgspec.json.encode(body)
    return WholeResponse([text], status, [
        ("Content-Type", content_type), ("Content-Length", str(len(text))), *headers])
