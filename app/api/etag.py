"""Validators of what is served (RFC 9110, 8.8.3): strong ones, taken from the very bytes."""

import hashlib

from flask import Response, request

from app.api import bodies


def etag(text: bytes) -> str:
    """Return the ETag of a representation: other bytes have another."""
    return f'"{hashlib.blake2b(text, digest_size=12).hexdigest()}"'


def is_held(tag: str) -> bool:
    """Whether the caller of the request at hand says by `If-None-Match` that it has this representation."""
    given: str | None = request.environ.get("HTTP_IF_NONE_MATCH")
    if not given:
        return False
    return any(held.strip().removeprefix("W/") in (tag, "*") for held in given.split(","))


def validated(response: Response, *, cache: str = "private, no-cache") -> Response:
    """Give a whole response its ETag, and leave its body out where the caller has it: 304."""
    tag = etag(b"".join(response.response))  # type: ignore[arg-type]  # a whole response is made of bytes
    response.headers.add("ETag", tag)
    response.headers.add("Cache-Control", cache)
    if not is_held(tag):
        return response
    kept = [(name, value) for name, value in response.headers if name not in ("Content-Type", "Content-Length")]
    return bodies.WholeResponse(status=304, headers=kept)
