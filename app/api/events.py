"""`GET /v1/jobs/{id}/events`: a job's story as it happens, as server-sent events.

Format: https://html.spec.whatwg.org/multipage/server-sent-events.html. What the events are, and their ids, stands in
`app.transcript`.
"""

import select
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress

import msgspec
from flask import Blueprint, Response, request

from app import logs
from app.accounts import Scope
from app.api import bodies, caller
from app.api.jobs import check_id
from app.api.submission import DURABILITY
from app.errors import MalformedRequest
from app.following import Following
from app.job import Job
from app.transcript import Event, Mark

blueprint = Blueprint("events", __name__, url_prefix="/v1/jobs")

COMMENT = b": waiting\n\n"
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # the second keeps a proxy from gathering events

#: A reader who loses us comes back after this time (browsers wait for 3 s or more by themselves).
RETRY = b"retry: 1000\n\n"

#: A reader who takes nothing for so long is cut off: he would hold a connection, and all that waits for him, for ever. He
#: can go on where he was.
_SEND_S = 30.0
_ROOM_S = 1.0  # how long it may take us to see that we are to stop, while a reader takes nothing
_SLICE = 16384  # bytes sent at a time: as much as a connection that takes anything at all has room for


@blueprint.get("/<job_id>/events")
def events(job_id: str) -> Response:
    """Stream the job's events from `Last-Event-ID` (or `?starting_after=`) on; 204 when that was the last."""
    tenant = caller.current(Scope.JOBS_READ).tenant
    check_id(job_id)
    try:
        mark = _mark()
    except ValueError as exc:
        raise MalformedRequest(f"Last-Event-ID (or starting_after): {exc}; leave it out to start over") from exc
    following = Following(job_id, tenant, ledger=bodies.gateway().ledger, mark=mark)
    first = following.begin()
    if following.over and not first:
        return Response(status=204, headers=HEADERS)
    body: Iterator[bytes] = iter(()) if request.method == "HEAD" else _stream(job_id, following, first)
    return Response(body, headers=HEADERS, content_type="text/event-stream; charset=utf-8")


def _mark() -> Mark | None:
    """Return the last event that the reader had, None where he starts. Raises `ValueError`."""
    given = request.headers.get("Last-Event-ID") or request.args.get("starting_after")
    return Mark.parse(given.strip()) if given else None


def _stream(job_id: str, following: Following, first: Sequence[Event]) -> Iterator[bytes]:
    """Return the body. It is sent after the view has returned, so what it needs of the gateway is taken here."""
    gateway = bodies.gateway()
    connection: socket.socket | None = request.environ.get("gunicorn.socket")

    def chunks() -> Iterator[bytes]:
        yield RETRY + b"".join(map(written, first))
        for fresh in following.events(gateway.streams, gateway.announcements):
            yield b"".join(map(written, fresh)) or COMMENT

    return chunks() if connection is None else paced(
        chunks(), connection, lambda: gateway.streams.closing, job_id=job_id)


def paced(chunks: Iterable[bytes], connection: socket.socket, stopping: Callable[[], bool], *,
          job_id: str = "", tenant: str = "", send_s: float = _SEND_S) -> Iterator[bytes]:
    """Give out a body in slices, each when the connection has room for it; close the connection when it has none for
    `send_s`, or when we are to stop. `job_id` or `tenant` is for the log."""
    connection.settimeout(send_s)  # of a send that was begun
    try:
        for chunk in chunks:
            for start in range(0, len(chunk), _SLICE):
                if not _has_room(connection, stopping, send_s):
                    logs.event("reader_cut_off", job=job_id, tenant=tenant, stopping=stopping(),
                               bytes_left=len(chunk) - start)
                    with suppress(OSError):  # he has gone himself
                        connection.shutdown(socket.SHUT_RDWR)
                    return
                yield chunk[start:start + _SLICE]
    finally:
        connection.settimeout(None)


def _has_room(connection: socket.socket, stopping: Callable[[], bool], wait_s: float) -> bool:
    """Wait until something can be sent (or the connection is broken, as the sending will tell)."""
    poll, end_s = select.poll(), time.monotonic() + wait_s
    poll.register(connection, select.POLLOUT)
    while not poll.poll(min(_ROOM_S, wait_s) * 1000):
        if stopping() or time.monotonic() >= end_s:
            return False
    return True


def written(event: Event) -> bytes:
    """Return an event as it is sent. Its data is JSON, maybe of several lines: a value that a caller gave is kept as it was
    written."""
    data = event.data.public(durability=DURABILITY) if isinstance(event.data, Job) else event.data
    lines = msgspec.json.encode(data).splitlines()
    return b"id: %s\nevent: %s\n%s\n" % (str(event.mark).encode(), event.name.encode(),
                                         b"".join(b"data: %s\n" % line for line in lines))
