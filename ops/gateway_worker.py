"""The gateway's process: gunicorn's gevent worker, whose settings are read once instead of several times a request.

Nothing else may be imported here: gunicorn's master loads this before the standard library is patched for gevent.
"""

import json
import random
import socket
from typing import Any

import gevent
from gunicorn import util
from gunicorn.workers.ggevent import GeventWorker

_LAST_REQUEST_S = 0.5  # for what a client had sent when its stream ended
_SILENCE_S = 3.0  # a stopping gateway keeps a silent connection so long: who asks meanwhile is answered, and told to close


def write_problem(connection: socket.socket, status: int, reason: str, detail: str) -> None:
    """Answer what could not be read as a request, in the form of all our errors (RFC 9457)."""
    code, request_id = reason.lower().replace(" ", "-"), f"{random.getrandbits(64):016x}"
    body = json.dumps({"type": f"/problems/{code}", "title": reason, "status": status, "detail": detail or reason,
                       "instance": "", "code": code, "request_id": request_id}).encode()
    util.write_nonblock(connection, (
        f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Type: application/problem+json\r\n"
        f"Content-Length: {len(body)}\r\nX-Request-Id: {request_id}\r\n\r\n").encode() + body)


class _Wait(gevent.Timeout):  # type: ignore[misc]
    """A connection's wait for its next request, one of `waits` while it lasts."""

    def __init__(self, seconds: float, waits: set["_Wait"]) -> None:
        super().__init__(seconds, False)  # its end is none of the connection's errors
        self._waits = waits

    def __enter__(self) -> "_Wait":
        self._who = gevent.getcurrent()
        self._waits.add(self)
        super().__enter__()
        return self

    def __exit__(self, *raised: Any) -> bool | None:
        self._waits.discard(self)
        ended: bool | None = super().__exit__(*raised)
        return ended

    def end(self) -> None:
        """End it now, if it still lasts. For the hub only, where nothing can come between the look and the end."""
        if self in self._waits:
            self._who.throw(self)


class GatewayWorker(GeventWorker):  # type: ignore[misc]
    """gunicorn looks a setting up through `Config.__getattr__` and a dictionary of objects; an attribute of the instance
    goes before that, and saves a twentieth of a short request's time."""

    _waits: set[_Wait]

    def init_process(self) -> None:
        """Copy the settings into attributes, but for those that are properties, let errors be told as ours, and go on as
        ever."""
        util.write_error = write_problem  # gunicorn's own is HTML, and it has no setting for it
        self._waits = set()
        settings, kind = self.cfg.settings, type(self.cfg)
        self.cfg.__dict__.update({name: settings[name].get() for name in settings if not hasattr(kind, name)})
        super().init_process()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Told to stop: end the open streams, whose readers go on elsewhere, and the connections on which nothing comes.
        Both would keep us until the time is up."""
        super().handle_exit(sig, frame)
        gevent.spawn_later(min(_SILENCE_S, self.cfg.graceful_timeout / 2), self._hang_up)
        application = self.__dict__.get("wsgi")  # not there yet while we start
        if application is not None:
            gevent.spawn(application.extensions["tandem"].streams.close)  # its lock may be held by what this interrupts

    def _hang_up(self) -> None:
        for wait in self._waits:
            gevent.get_hub().loop.run_callback(wait.end)

    def timeout_ctx(self) -> gevent.Timeout:
        """How long to wait for a connection's next request; hardly, once we are to stop."""
        return _Wait(self.cfg.keepalive if self.alive else _LAST_REQUEST_S, self._waits)
