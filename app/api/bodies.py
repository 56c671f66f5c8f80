"""Request bodies in, response bodies out, and the gateway's parts for the request at hand."""

import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, cast

import gevent
import msgspec
from flask import Response, current_app, request
from gunicorn.http.errors import ParseException
from werkzeug.datastructures import Headers

from app.errors import InvalidInput, MalformedRequest, PayloadTooLarge, RequestTimeout, UnsupportedMedia
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


def json_body(most: int | None = None) -> bytes:
    """Return the request's body, which must say that it is JSON, and be UTF-8; it has at most `most` bytes, or as many as
    the gateway takes.

    Raises `UnsupportedMedia`, `PayloadTooLarge` or `MalformedRequest`.
    """
    if request.environ.get("CONTENT_TYPE") != "application/json" and request.mimetype != "application/json":
        raise UnsupportedMedia(f"send the body as application/json; it came as '{request.mimetype or 'nothing'}'")
    body = _body(most or gateway().settings.max_body_bytes)
    if not body:
        raise MalformedRequest("the body is empty; send a JSON object")
    try:
        body.decode()  # msgspec does not look into what it leaves undecoded, such as a cached value
    except UnicodeDecodeError as exc:
        raise MalformedRequest(f"the body is not UTF-8: {exc.reason} (byte {exc.start})") from exc
    return body


def _body(most: int) -> bytes:
    """Return the body, read straight from the server: Flask's own way is five times as slow, and cuts a chunked body off
    at the limit instead of refusing it."""
    stated = request.content_length
    if stated is not None and stated > most:
        raise _too_large(most)
    try:
        body = _read(most + 1 if stated is None else stated)
    except (OSError, ParseException) as exc:  # the connection broke, or the chunks are none
        raise MalformedRequest(f"the body cannot be read: {exc}") from exc
    if len(body) > most:
        raise _too_large(most)
    if stated is not None and len(body) < stated:
        raise MalformedRequest(f"the connection ended after {len(body)} of the body's {stated} bytes")
    return body


def _read(size: int) -> bytes:
    """Read up to `size` bytes of the body. Raises `RequestTimeout` where they do not come, and takes no more of them."""
    body_s = gateway().settings.body_s
    limit = gevent.Timeout.start_new(body_s)
    try:
        body: bytes = request.environ["wsgi.input"].read(size)
    except gevent.Timeout as exc:
        if exc is not limit:
            raise
        connection: socket.socket | None = request.environ.get("gunicorn.socket")
        if connection is not None:
            with suppress(OSError):  # it may have gone
                connection.shutdown(socket.SHUT_RD)
        raise RequestTimeout(f"the body had not come within {body_s:g} s; send it again, or a smaller one") from exc
    finally:
        limit.close()
    return body


def _too_large(most: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"the body is larger than the {most} bytes that this call takes")


def decode(body: bytes, kind: type[Body]) -> Body:
    """Return the body as a struct. Raises `MalformedRequest` or `InvalidInput`."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as exc:
        raise invalid(exc, kind) from exc
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
