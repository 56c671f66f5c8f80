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


def write_problem(connection: socket.socket, status: int, reason: str, detail: str) -> None:
    """Answer what could not be read as a request, in the form of all our errors (RFC 9457)."""
    code, request_id = reason.lower().replace(" ", "-"), f"{random.getrandbits(64):016x}"
    body = json.dumps({"type": f"/problems/{code}", "title": reason, "status": status, "detail": detail or reason,
                       "instance": "", "code": code, "request_id": request_id}).encode()
    util.write_nonblock(connection, (
        f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Type: application/problem+json\r\n"
        f"Content-Length: {len(body)}\r\nX-Request-Id: {request_id}\r\n\r\n").encode() + body)


class GatewayWorker(GeventWorker):  # type: ignore[misc]
    """gunicorn looks a setting up through `Config.__getattr__` and a dictionary of objects; an attribute of the instance
    goes before that, and saves a twentieth of a short request's time."""

    def init_process(self) -> None:
        """Copy the settings into attributes, but for those that are properties, let errors be told as ours, and go on as
        ever."""
        util.write_error = write_problem  # gunicorn's own is HTML, and it has no setting for it
        settings, kind = self.cfg.settings, type(self.cfg)
        self.cfg.__dict__.update({name: settings[name].get() for name in settings if not hasattr(kind, name)})
        super().init_process()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Told to stop: end the open streams, whose readers go on elsewhere, or they would keep us until the time is up."""
        super().handle_exit(sig, frame)
        application = self.__dict__.get("wsgi")  # not there yet while we start
        if application is not None:
            gevent.spawn(application.extensions["tandem"].streams.close)  # its lock may be held by what this interrupts

    def timeout_ctx(self) -> gevent.Timeout:
        """How long to wait for a connection's next request; hardly, once we are to stop."""
        return super().timeout_ctx() if self.alive else gevent.Timeout(_LAST_REQUEST_S, False)
