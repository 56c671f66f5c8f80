"""`GET /v1/events`: what happens to the caller's jobs, as server-sent events.

Many jobs are followed by one connection this way; what a job says is not told here (`app.api.events` does). What the ids
are stands in `app.tenant_following`.
"""

import socket
from collections.abc import Iterator

import msgspec
from flask import Blueprint, Response, request

from app.accounts import Scope
from app.api import bodies, caller
from app.api.events import COMMENT, HEADERS, RETRY, paced
from app.errors import MalformedRequest
from app.tenant_events import StreamId
from app.tenant_following import TenantEvent, TenantFollowing

blueprint = Blueprint("tenant_events", __name__, url_prefix="/v1/events")


@blueprint.get("")
def events() -> Response:
    """Stream events from `Last-Event-ID` (or `?starting_after=`) on; from now on without."""
    tenant = caller.current(Scope.EVENTS).tenant
    try:
        mark = _mark()
    except ValueError as exc:
        raise MalformedRequest(f"Last-Event-ID (or starting_after): {exc}; leave it out to begin now, 0-0 begins with the "
                               "oldest that is kept") from exc
    following = TenantFollowing(tenant, client=bodies.gateway().client, mark=mark)
    following.begin()
    body: Iterator[bytes] = iter(()) if request.method == "HEAD" else _stream(tenant, following)
    return Response(body, headers=HEADERS, content_type="text/event-stream; charset=utf-8")


def _mark() -> StreamId | None:
    given = request.headers.get("Last-Event-ID") or request.args.get("starting_after")
    return StreamId.parse(given.strip()) if given else None


def _stream(tenant: str, following: TenantFollowing) -> Iterator[bytes]:
    """Return the body. It is sent after the view has returned, so what it needs of the gateway is taken here."""
    gateway = bodies.gateway()
    connection: socket.socket | None = request.environ.get("gunicorn.socket")

    def stopping() -> bool:
        return gateway.streams.closing

    def chunks() -> Iterator[bytes]:
        # An id without data sets where a reader comes back to, and is no event: he misses nothing before the first one.
        yield RETRY + f"id: {following.mark}\n\n".encode()
        for fresh in following.events(gateway.tenant_events, stopping):
            yield b"".join(map(_written, fresh)) or COMMENT

    return chunks() if connection is None else paced(chunks(), connection, stopping, tenant=tenant)


def _written(event: TenantEvent) -> bytes:
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (
        str(event.id).encode(), event.name.encode(), msgspec.json.encode(event.data))
