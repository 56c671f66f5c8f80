"""`GET /v1/jobs/{id}/events`: a job's story as it happens, as server-sent events.

Format: https://html.spec.whatwg.org/multipage/server-sent-events.html. What the events are, and their ids, stands in
`app.transcript`.
"""

from collections.abc import Iterator, Sequence

import msgspec
from flask import Blueprint, Response, request

from app.api import bodies, caller
from app.api.jobs import DURABILITY
from app.errors import JobUnknown, MalformedRequest
from app.following import Following
from app.job import Job, is_job_id
from app.transcript import Event, Mark

blueprint = Blueprint("events", __name__, url_prefix="/v1/jobs")

_COMMENT = b": waiting\n\n"
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # the second keeps a proxy from gathering events

#: A reader who loses us comes back after this time (browsers wait for 3 s or more by themselves).
_RETRY = b"retry: 1000\n\n"


@blueprint.get("/<job_id>/events")
def events(job_id: str) -> Response:
    """Stream the job's events from `Last-Event-ID` (or `?starting_after=`) on; 204 when that was the last."""
    tenant = caller.current().tenant
    if not is_job_id(job_id):
        raise JobUnknown(f"there is no job '{job_id[:60]}': an id is a UUID, as the submit's answer gave it")
    try:
        following = Following(job_id, tenant, ledger=bodies.gateway().ledger, mark=_mark())
        first = following.begin()
    except ValueError as exc:
        raise MalformedRequest(f"Last-Event-ID (or starting_after): {exc}; leave it out to start over") from exc
    if following.over and not first:
        return Response(status=204, headers=_HEADERS)
    body: Iterator[bytes] = iter(()) if request.method == "HEAD" else _stream(following, first)
    return Response(body, headers=_HEADERS, content_type="text/event-stream; charset=utf-8")


def _mark() -> Mark | None:
    """Return the last event that the reader had, None where he starts. Raises `ValueError`."""
    given = request.headers.get("Last-Event-ID") or request.args.get("starting_after")
    return Mark.parse(given.strip()) if given else None


def _stream(following: Following, first: Sequence[Event]) -> Iterator[bytes]:
    """Return the body. It is sent after the view has returned, so what it needs of the gateway is taken here."""
    gateway = bodies.gateway()

    def chunks() -> Iterator[bytes]:
        yield _RETRY + b"".join(map(written, first))
        for fresh in following.events(gateway.streams, gateway.announcements):
            yield b"".join(map(written, fresh)) or _COMMENT

    return chunks()


def written(event: Event) -> bytes:
    """Return an event as it is sent. Its data is JSON, maybe of several lines: a value that a caller gave is kept as it was
    written."""
    data = event.data.public(durability=DURABILITY) if isinstance(event.data, Job) else event.data
    lines = msgspec.json.encode(data).splitlines()
    return b"id: %s\nevent: %s\n%s\n" % (str(event.mark).encode(), event.name.encode(),
                                         b"".join(b"data: %s\n" % line for line in lines))
